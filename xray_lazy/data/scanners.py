"""What is known of the scanners whose exports carry no picture sizes."""

import re

from xray_lazy.errors import UserError

# (width, height) in pixels of the pictures that each scanner stores
SCANNER_SIZES: dict[str, tuple[int, int]] = {
    "astrophysics": (1920, 1080),
    "smith": (1680, 1050),
    "rapiscan": (1680, 1050),
}


def scanner_size(name: str) -> tuple[int, int]:
    """(width, height) of a scanner's pictures.

    Raises:
        UserError: no size is known for it.
    """
    if name not in SCANNER_SIZES:
        raise UserError(f"no picture size is known for scanner {name!r}", f"known are {', '.join(SCANNER_SIZES)}")
    return SCANNER_SIZES[name]


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from text like 1920x1080.

    Raises:
        UserError: it is written otherwise.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text.strip().lower())
    if not match:
        raise UserError(f"{text!r} is not a picture size", "write WIDTHxHEIGHT in pixels, e.g. 1920x1080")
    return int(match[1]), int(match[2])
