"""Geometry of COCO masks: what is wrong with a polygon or an RLE, its box, its area, and clipping to the image."""

from operator import mul

import numpy as np

from xray_lazy.data.check.values import are_coordinates, is_whole
from xray_lazy.data.masks.run_lengths import compressed, encode_polygons, run_lengths
from xray_lazy.utils.wording import counted

Frame = tuple[int, int] | None  # (width, height) of the image, or None where it is not known

# Annotation tools put points on the outer edge of the last pixel or round them past it.
EDGE_TOLERANCE = 1.0
# A polygon thinner than this many pixels covers nothing.
THINNEST = 0.01
_MOST_PIXELS = 2**31


def part_fault(part: object, frame: Frame) -> tuple[str, str] | None:
    """What is wrong with one polygon of a mask, as (kind, detail), or None."""
    if not isinstance(part, list) or not are_coordinates(part):
        return "polygon_malformed", "something else than finite numbers"
    if len(part) % 2:
        return "polygon_odd", counted(len(part), "coordinate")
    if len(part) < 6:
        return "polygon_short", counted(len(part) // 2, "point")
    x_min, y_min, x_max, y_max = _extent([part])
    if _is_line(part, x_max - x_min + y_max - y_min):
        return "polygon_flattened", f"{counted(len(part) // 2, 'point')} on a line"
    return span_fault("polygon", (x_min, y_min, x_max, y_max), frame)


def span_fault(what: str, extent: tuple[float, float, float, float], frame: Frame) -> tuple[str, str] | None:
    """Whether xyxy `extent` leaves the image: (`what`_outside or `what`_beyond, detail), or None."""
    if frame is None:
        return None
    width, height = frame
    x_min, y_min, x_max, y_max = extent
    detail = f"x {x_min:.6g} to {x_max:.6g}, y {y_min:.6g} to {y_max:.6g} in {width}x{height}"
    if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
        return f"{what}_outside", detail
    if min(x_min, y_min) < -EDGE_TOLERANCE or x_max > width + EDGE_TOLERANCE or y_max > height + EDGE_TOLERANCE:
        return f"{what}_beyond", detail
    return None


def rle_fault(rle: dict, frame: Frame) -> tuple[str, str] | None:
    """What is wrong with a run-length encoded mask, as (kind, detail), or None.

    pycocotools decodes without looking, past the end of its memory if need be: nothing goes to it before this.
    """
    size = rle_size(rle)
    if size is None:
        return "rle_invalid", "no [height, width] of an image under `size`"
    height, width = size
    counts = _run_lengths(rle.get("counts"))
    if counts is None:
        return "rle_invalid", "`counts` are no run lengths"
    if (total := int(counts.sum())) != height * width:
        return "rle_invalid", f"runs of {total} pixel{'s' * (total != 1)} for {width}x{height}"
    if not counts[1::2].any():
        return "rle_empty", ""
    if frame is not None and (width, height) != frame:
        return "rle_size", f"{width}x{height} in an image of {frame[0]}x{frame[1]}"
    return None


def rle_size(rle: dict) -> tuple[int, int] | None:
    """(height, width) of a run-length encoded mask, or None where it states none that a mask can have."""
    size = rle.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(is_whole(s) and s > 0 for s in size)):
        return None
    return tuple(size) if size[0] * size[1] < _MOST_PIXELS else None


def mask_box(segmentation: list | dict) -> list[float]:
    """The box [x, y, width, height] around a faultless mask."""
    if isinstance(segmentation, dict):
        from pycocotools import mask

        return [float(value) for value in mask.toBbox(compressed(segmentation))]
    x_min, y_min, x_max, y_max = _extent(segmentation)
    return [_tidy(value) for value in (x_min, y_min, x_max - x_min, y_max - y_min)]


def mask_area(segmentation: list | dict, frame: Frame) -> float:
    """The number of pixels of a faultless mask as pycocotools draws it; overlapping parts count once."""
    from pycocotools import mask

    if isinstance(segmentation, dict):
        return float(mask.area(compressed(segmentation)))
    if frame is None:
        x_max, y_max = _extent(segmentation)[2:]
        frame = max(int(x_max) + 2, 1), max(int(y_max) + 2, 1)
    width, height = frame
    if width * height >= _MOST_PIXELS:
        return sum(outline_area(part) for part in segmentation)
    return float(mask.area(encode_polygons(segmentation, height, width)))


def outline_area(part: list[float]) -> float:
    """The area inside one polygon by the shoelace formula; too small where the outline crosses itself."""
    xs, ys = part[0::2], part[1::2]
    return abs(sum(map(mul, xs, ys[1:] + ys[:1])) - sum(map(mul, ys, xs[1:] + xs[:1]))) / 2


def clip_polygon(part: list[float], frame: tuple[int, int]) -> list[float]:
    """The part of a polygon inside the image (Sutherland and Hodgman, "Reentrant polygon clipping", CACM 1974)."""
    points = list(zip(part[0::2], part[1::2], strict=True))
    for axis in (0, 1):
        points = _cut(points, axis, 0, 1)
        points = _cut(points, axis, frame[axis], -1)
    return [_tidy(value) for point in points for value in point]


def _cut(points: list, axis: int, limit: float, side: int) -> list:
    """Keep what has side * (coordinate - limit) >= 0."""
    kept = []
    for before, point in zip(points[-1:] + points[:-1], points, strict=True):
        inside, was_inside = (side * (p[axis] - limit) >= 0 for p in (point, before))
        if inside != was_inside:
            share = (limit - before[axis]) / (point[axis] - before[axis])
            crossing = [b + share * (p - b) for b, p in zip(before, point, strict=True)]
            crossing[axis] = limit
            kept.append(tuple(crossing))
        if inside:
            kept.append(point)
    return kept


def _extent(parts: list[list[float]]) -> tuple[float, float, float, float]:
    return (
        min(min(part[0::2]) for part in parts),
        min(min(part[1::2]) for part in parts),
        max(max(part[0::2]) for part in parts),
        max(max(part[1::2]) for part in parts),
    )


def _is_line(part: list[float], reach: float) -> bool:
    if outline_area(part) > THINNEST * reach:
        return False
    # also the outline of a bow tie has no area by the shoelace formula: measure how far points lie from a line
    offsets = np.asarray(part, dtype=float).reshape(-1, 2) - part[:2]
    direction = offsets[np.argmax((offsets**2).sum(axis=1))]
    length = float(np.hypot(*direction))
    if length < THINNEST:
        return True
    distances = np.abs(offsets[:, 0] * direction[1] - offsets[:, 1] * direction[0]) / length
    return bool(distances.max() < THINNEST)


def _run_lengths(counts: object) -> np.ndarray | None:
    """The runs of pixels off, on, off, ... of a list or of COCO's text form, or None where they are neither."""
    if isinstance(counts, list):
        good = counts and all(is_whole(count) and 0 <= count < _MOST_PIXELS for count in counts)
        return np.asarray(counts, dtype=np.int64) if good else None
    if not isinstance(counts, str) or not counts or not counts.isascii():
        return None
    codes = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    # bit 6 of a character says that its number goes on
    ends = np.flatnonzero(codes & 0x20 == 0)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 0x20 or np.diff(ends, prepend=-1).max() > 7:
        return None
    runs = run_lengths(counts)
    return runs if runs.min() >= 0 else None


def _tidy(value: float) -> float:
    """Three decimals are plenty for pixels, but nothing may become 0 by it."""
    return round(value, 3) or value
