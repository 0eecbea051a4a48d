"""Turned boxes and ellipses, which COCO lacks, as polygons [x1, y1, x2, y2, ...] in pixels, y downwards."""

import math
from collections.abc import Sequence

PRECISION = 0.1  # pixels between an ellipse and its polygon


def ellipse(center: Sequence[float], radii: Sequence[float], degrees: float = 0) -> list[float]:
    """An ellipse of two radii along x and y, turned clockwise around its center.

    Raises:
        ValueError: a radius is not above 0.
    """
    if min(radii) <= 0:
        raise ValueError(f"an ellipse with the radii {radii[0]:g} and {radii[1]:g}")
    corners = max(12, math.ceil(math.pi / math.acos(1 - PRECISION / max(*radii, 1))))
    angles = [2 * math.pi * corner / corners for corner in range(corners)]
    x, y = center
    return turned(
        [c for a in angles for c in (x + radii[0] * math.cos(a), y + radii[1] * math.sin(a))], center, degrees
    )


def turned_box(box: Sequence[float], pivot: Sequence[float], degrees: float) -> list[float]:
    """The corners of a box [x, y, width, height] that is turned clockwise around a point."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    return turned([left, top, right, top, right, bottom, left, bottom], pivot, degrees)


def turned(points: Sequence[float], pivot: Sequence[float], degrees: float) -> list[float]:
    """A polygon that is turned clockwise around a point."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = [(x - pivot[0], y - pivot[1]) for x, y in zip(points[::2], points[1::2], strict=True)]
    return [value for x, y in moved for value in (pivot[0] + x * cos - y * sin, pivot[1] + x * sin + y * cos)]
