"""Numbers, durations and sizes as a reader likes them."""

from xray_lazy.report.blocks import Cell
from xray_lazy.utils.wording import counted

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
NOTHING = DASH


def number(value: float | None, decimals: int = 1) -> str:
    """`43.9`; a dash for what could not be measured."""
    return NOTHING if value is None or value != value else f"{value:,.{decimals}f}"


def count(value: int | None, singular: str = "", plural: str = "") -> str:
    """`1,500 iterations`."""
    if value is None:
        return NOTHING
    return counted(value, singular, plural) if singular else f"{value:,}"


def duration(seconds: float | None) -> str:
    """`45 s`, `21 min`, `2 h 05 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def short_time(seconds: float | None) -> str:
    """Of a step: `720 ms`, `1.35 s`."""
    if seconds is None:
        return NOTHING
    return (
        f"{seconds * 1000:.1f} ms"
        if seconds < 0.01
        else f"{seconds * 1000:.0f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )


def share(part: float | None, whole: float | None) -> str:
    """`12%`."""
    return f"{100 * part / whole:.0f}%" if part is not None and whole else NOTHING


def text(value: str, code: bool = False) -> Cell:
    return Cell(value, code=code)


def numeric(value: float | None, decimals: int = 1, scale: float | None = None) -> Cell:
    """A number; with `scale` a bar shows its part of that."""
    if value is None or value != value:
        return Cell(NOTHING, tone="quiet")
    bar = None if not scale else min(1.0, max(0.0, value / scale))
    return Cell(number(value, decimals), value, bar)


def whole(value: int | None) -> Cell:
    return numeric(value, 0)


def difference(
    value: float | None, base: float | None, decimals: int = 1, higher_is_better: bool | None = True
) -> Cell:
    """`+1.2`, toned by whether that is better; None for `higher_is_better` tells no tone."""
    if value is None or base is None or value != value or base != base:
        return Cell(NOTHING, tone="quiet")
    change = value - base
    shown = f"{change:+,.{decimals}f}"
    if float(shown.replace(",", "")) == 0:
        return Cell("±0", 0.0, tone="quiet")
    tone = "" if higher_is_better is None else "good" if (change > 0) == higher_is_better else "bad"
    return Cell(shown.replace("-", MINUS), change, tone=tone)
