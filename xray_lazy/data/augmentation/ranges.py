"""Numbers that the parts of an augmentation take, refused before a training where they mean nothing."""

from collections.abc import Sequence

from xray_lazy.errors import UserError
from xray_lazy.utils.limits import Limits

MOST_ITEMS = 100  # that are put into one image: places for more are looked for and not found
MOST_SCALE = 10


def check_range(
    part: str,
    name: str,
    values: Sequence[float],
    least: float | None = None,
    above: float | None = None,
    most: float = float("inf"),
    whole: bool = False,
) -> None:
    """Two numbers that ascend.

    Args:
        part: that has them, for the message.
        name: of the argument.
        least, above: the smallest that the lower one may be, or what it must be above.
        most: the largest that the upper one may be.
        whole: both are to be whole numbers.

    Raises:
        UserError: they are not such numbers.
    """
    is_range = len(values) == 2 and values[0] <= values[1] <= most
    if whole and not all(isinstance(value, int) for value in values):
        raise UserError(f"{part} has {name}={list(values)}, which is no range", "give two whole numbers that ascend")
    if not is_range or (least is not None and values[0] < least) or (above is not None and values[0] <= above):
        given = (("from", least), ("above", above), ("at most", None if most == float("inf") else most))
        bounds = ", ".join(f"{word} {bound:g}" for word, bound in given if bound is not None)
        raise UserError(
            f"{part} has {name}={list(values)}, which is no range", f"give two numbers that ascend, {bounds}"
        )


def check_number(part: str, name: str, value: float, limits: Limits) -> None:
    """Raises: UserError: it is not within the limits."""
    if complaint := limits.complaint(value):
        raise UserError(f"{part} has {name}={value}: {complaint}", f"give {limits}")


def check_share(part: str, name: str, value: float) -> None:
    """Raises: UserError: it is not from 0 to 1."""
    if not 0 <= value <= 1:
        raise UserError(f"{part} has {name}={value}, which is no share", "give one from 0 to 1")
