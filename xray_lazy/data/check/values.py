"""What counts as a number in a COCO file, and which odd spellings still mean one."""

import math
import re
import unicodedata
from collections.abc import Collection, Iterator
from itertools import count
from typing import Any, TypeGuard

# Coordinates beyond this many pixels are no coordinates; it also keeps sums and products finite.
COORDINATE_LIMIT = 1e6
_ID_LIMIT = 2**53
_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", re.ASCII)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether `value` is an integer that every reader of JSON keeps exact (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _ID_LIMIT


def unused_ids(taken: Collection[int]) -> Iterator[int]:
    """Whole numbers above 0 that aren't taken: those above the largest one, then smaller ones."""
    yield from range(max([0, *taken]) + 1, _ID_LIMIT + 1)
    yield from (number for number in count(1) if number not in taken)


def is_id(value: Any) -> TypeGuard[int | float | str]:
    """Whether `value` can tell entries apart: a whole number of any size, or a text that is not blank."""
    if isinstance(value, str):
        return bool(value.strip())
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def class_name(value: Any) -> str | None:
    """The name of a class, which may be written as a number, or None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def is_odd_name(name: str) -> bool:
    """Whether formats with a class in each line, or XML, can't hold a class's name."""
    return name != name.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def is_finite(value: Any) -> bool:
    """Whether `value` is a finite number of a size that a coordinate or an area may have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= COORDINATE_LIMIT**2 and math.isfinite(value)


def are_coordinates(values: list) -> bool:
    """Whether all of `values` are finite numbers within the limit for coordinates."""
    # sets of types and builtins: this runs once per polygon, on hundreds of numbers
    if not set(map(type, values)) <= {int, float}:
        return False
    if not values:
        return True
    # min and max may step over a NaN; the sum does not
    return min(values) >= -COORDINATE_LIMIT and max(values) <= COORDINATE_LIMIT and math.isfinite(sum(values))


def as_whole(value: Any) -> int | None:
    """The integer that a text ("12") or a decimal (12.0) spells, or None."""
    number = as_number(value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer() and abs(number) <= _ID_LIMIT:
        return int(number)
    return number if is_whole(number) else None


def as_number(value: Any) -> int | float | None:
    """The finite number that a text spells, or None."""
    if not isinstance(value, str) or len(value) > 40 or not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    if not is_finite(number):
        return None
    return int(number) if number.is_integer() and "." not in value and "e" not in value.lower() else number


def crowd_value(value: Any) -> int:
    """What repair, and training without it, make of an `iscrowd`: 1 for any number but 0, 0 for what is none."""
    number = as_number(value) if isinstance(value, str) else value
    return int(isinstance(number, int | float) and bool(number))
