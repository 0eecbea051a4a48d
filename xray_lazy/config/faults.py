"""Faults of a config: collected first, then reported together."""

from collections.abc import Sequence
from dataclasses import dataclass

from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: at which key, what, and what to do about it (may be empty)."""

    key: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def raise_faults(faults: Sequence[Fault]) -> None:
    """Return where there are no faults; else raise one error that lists them all.

    Raises:
        UserError: there is a fault.
    """
    if not faults:
        return
    if len(faults) == 1:
        raise UserError(str(faults[0]), faults[0].fix)
    lines = [f"the config has {counted(len(faults), 'fault')}"]
    for fault in faults:
        lines.append(f"  {fault}")
        if fault.fix:
            lines.append(f"    fix: {fault.fix}")
    raise UserError("\n".join(lines))
