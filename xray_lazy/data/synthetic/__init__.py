"""Synthetic baggage scans: overlapping objects of known shape and material, X-rayed, with exact instance masks."""

from xray_lazy.errors import UserError

# The first classes are the easiest to tell apart: `--classes 5` takes the first five.
CLASS_NAMES = (
    "gun",
    "knife",
    "scissors",
    "battery",
    "bottle",
    "wrench",
    "pliers",
    "hammer",
    "lighter",
    "power_bank",
    "razor_blade",
    "handcuffs",
    "spray_can",
)


def parse_classes(text: str) -> tuple[str, ...]:
    """Class names from a number (the first ones) or from names with commas between them.

    Raises:
        UserError: there are not that many, or not of that name.
    """
    if text.isdecimal():
        if not 1 <= int(text) <= len(CLASS_NAMES):
            raise UserError(f"there are no {text} synthetic classes", f"ask for 1 to {len(CLASS_NAMES)}")
        return CLASS_NAMES[: int(text)]
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in CLASS_NAMES:
            raise UserError(f"there is no synthetic class {name!r}", f"choose from {', '.join(CLASS_NAMES)}")
    return names
