"""Masks in other nestings and spellings than COCO's, brought into its form where that needs no guess."""

import json
import re
from typing import Any

from xray_lazy.data.check.masks import rle_fault, rle_size
from xray_lazy.data.check.values import are_coordinates, as_number, as_whole
from xray_lazy.data.masks.run_lengths import union

# Lists in lists of a mask that are looked into; no tool writes more than three.
_DEEPEST = 8
_SEPARATORS = re.compile(r"[\s,;]+")


def in_coco_form(mask: object) -> object:
    """The mask as a list of polygons or an RLE; itself where it is that already, or can't be told to be one.

    Polygons may be flat, in more lists than need be, lists of points (`[x, y]` or `{"x": x, "y": y}`), text, or the
    points of an object, as VIA and labelme write them.
    """
    if isinstance(mask, str):
        mask = _from_text(mask) or mask
    if isinstance(mask, dict):
        points = None if "counts" in mask else _points_inside(mask)
        if points is None:
            return _respelled_rle(mask)
        mask = points
    if not isinstance(mask, list) or not mask or _is_list_of_polygons(mask):
        return mask
    if all(isinstance(part, dict) and "counts" in part for part in mask):
        return _merged(list(map(_respelled_rle, mask))) or mask
    if polygon := _polygon(mask):
        return [polygon]
    parts = [polygon for part in mask for polygon in _polygons(part)]
    return mask if repr(parts) == repr(mask) else parts  # a NaN is not equal to itself


def _is_list_of_polygons(mask: list) -> bool:
    return all(isinstance(part, list) and len(part) != 2 and are_coordinates(part) for part in mask)


def _polygons(part: object, depth: int = 0) -> list:
    """The polygons in a part of a mask; the part itself where it is something else."""
    if isinstance(part, str):
        part = _from_text(part) or part
    if isinstance(part, dict):
        part = _points_inside(part) or part
    if not isinstance(part, list) or not part:
        return [part]
    if polygon := _polygon(part):
        return [polygon]
    inside = [polygon for child in part for polygon in _polygons(child, depth + 1)] if depth < _DEEPEST else [None]
    return inside if all(isinstance(polygon, list) for polygon in inside) else [part]


def _polygon(values: list) -> list | None:
    """The flat coordinates of a list of numbers or of points, or None where it is neither."""
    points = [_point(value) for value in values]
    if None not in points:
        values = [coordinate for point in points if point for coordinate in point]
    numbers = [_number(value) for value in values]
    return None if None in numbers else numbers


def _points_inside(shape: dict) -> list | None:
    """The points in an object of VIA or labelme, or None where there are none."""
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys):
        return [list(point) for point in zip(xs, ys, strict=True)]
    return shape["points"] if isinstance(shape.get("points"), list) else None


def _point(value: Any) -> list | None:
    if isinstance(value, dict):
        value = next(([value[x], value[y]] for x, y in (("x", "y"), ("X", "Y")) if x in value and y in value), None)
    if not isinstance(value, list) or len(value) != 2:
        return None
    return value if all(_number(coordinate) is not None for coordinate in value) else None


def _number(value: object) -> int | float | None:
    if isinstance(value, str):
        return as_number(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _from_text(text: str) -> list | dict | None:
    """What a text spells in JSON, or the numbers in it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = [as_number(word) for word in _SEPARATORS.split(text.strip())]
        if None in content or len(content) < 6:
            return None
    return content if isinstance(content, list | dict) else None


def _merged(rles: list[dict]) -> dict | None:
    """One RLE of several of an image, or None where they are of different ones or can't be decoded."""
    if len(rles) == 1:
        return rles[0]
    kinds = {(rle_fault(rle, None) or ("",))[0] for rle in rles}
    if not kinds <= {"", "rle_empty"} or len({rle_size(rle) for rle in rles}) > 1:
        return None
    return union(rles)


def _respelled_rle(rle: dict) -> dict:
    """An RLE whose size and counts are numbers where they spell them."""
    size, counts = rle.get("size"), rle.get("counts")
    changed = {}
    if isinstance(counts, str) and " " in counts.strip():
        counts = _SEPARATORS.split(counts.strip())
    for name, values in (("size", size), ("counts", counts)):
        if not isinstance(values, list) or not {type(value) for value in values} & {str, float}:
            continue
        numbers = [as_whole(value) for value in values]
        if None not in numbers:
            changed[name] = numbers
    return {**rle, **changed} if changed else rle
