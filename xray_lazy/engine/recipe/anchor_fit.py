"""Anchors for the boxes of a data set: how many they can match at best, and sizes and shapes that match more."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

MOST_BOXES = 5000  # more change nothing in the third digit
STEPS = np.arange(-4, 5) / 4  # of a level's sizes, in octaves: half to twice as large


class Anchors(NamedTuple):
    """What an anchor generator makes at each cell of each level.

    Attributes:
        sizes: of each level, the sides of squares of the anchors' areas.
        ratios: height by width.
        strides: of the levels, pixels.
        offset: of the first cell's centre, in strides.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    strides: tuple[float, ...]
    offset: float = 0.0


def read_anchors(node: Any) -> Anchors | None:
    """The anchors of detectron2's generator in a config; None where they are of another form."""
    try:
        sizes, ratios = node["sizes"], node["aspect_ratios"]
        strides = tuple(map(float, node["strides"]))
        sizes = sizes * len(strides) if len(sizes) == 1 else sizes
        ratios = ratios[0] if len(ratios) == 1 and isinstance(ratios[0], list) else ratios
        anchors = Anchors(
            tuple(tuple(map(float, level)) for level in sizes),
            tuple(map(float, ratios)),
            strides,
            float(node.get("offset", 0)),
        )
    except (AttributeError, TypeError, KeyError, ValueError):
        return None
    return anchors if len(anchors.sizes) == len(strides) and anchors.ratios else None


def best_overlaps(boxes: np.ndarray, anchors: Anchors) -> np.ndarray:
    """Of each box (x, y, width, height) the intersection over union with its best anchor on the grid; `(n,)`."""
    return np.max([_level_overlaps(boxes, anchors, level, 1.0) for level in range(len(anchors.strides))], axis=0)


def fit_anchors(boxes: np.ndarray, anchors: Anchors, enough: float) -> Anchors:
    """As many anchors, with the largest mean overlap of boxes with their best anchor that a search by level finds.

    An overlap counts up to `enough`, with which a box is matched: none is given up for one that fits even better.
    Sizes stay within half and twice the given ones, which keeps their relation to the levels' strides; ratios are the
    given ones or quantiles of the boxes'. (YOLO9000's k-means has the same aim, without a grid and levels.)
    """
    boxes = _sample(boxes)
    starts = [anchors, anchors._replace(ratios=_quantiles(boxes, len(anchors.ratios)))]
    fitted = [_fit_sizes(boxes, one, enough) for one in starts]
    return max(fitted, key=lambda one: np.minimum(best_overlaps(boxes, one), enough).mean())


def _fit_sizes(boxes: np.ndarray, anchors: Anchors, enough: float) -> Anchors:
    levels = range(len(anchors.strides))
    table = np.array([[_level_overlaps(boxes, anchors, level, 2.0**step) for step in STEPS] for level in levels])
    table = np.minimum(table, enough)
    chosen = [len(STEPS) // 2] * len(levels)  # the given sizes
    for _ in range(3):
        for level in levels:
            others = [table[other, chosen[other]] for other in levels if other != level]
            means = np.maximum(np.max(others, axis=0, initial=0), table[level]).mean(1)
            if means.max() > means[chosen[level]]:
                chosen[level] = int(means.argmax())
    factors = [2.0 ** STEPS[place] for place in chosen]
    sizes = [tuple(_rounded(size * f) for size in level) for level, f in zip(anchors.sizes, factors, strict=True)]
    return anchors._replace(sizes=tuple(sizes))


def _level_overlaps(boxes: np.ndarray, anchors: Anchors, level: int, factor: float) -> np.ndarray:
    """As `best_overlaps`, of one level with its sizes multiplied."""
    stride, shift = anchors.strides[level], anchors.offset * anchors.strides[level]
    corner, extent = boxes[:, :2], boxes[:, 2:]
    # of anchors of one shape the nearest one overlaps most
    centre = np.round((corner + extent / 2 - shift) / stride).clip(0) * stride + shift
    best = np.zeros(len(boxes))
    for size in anchors.sizes[level]:
        for ratio in anchors.ratios:
            sides = np.array([size * factor / ratio**0.5, size * factor * ratio**0.5])
            ends = np.minimum(corner + extent, centre + sides / 2) - np.maximum(corner, centre - sides / 2)
            shared = ends.clip(0).prod(1)
            best = np.maximum(best, shared / (extent.prod(1) + sides.prod() - shared))
    return best


def _quantiles(boxes: np.ndarray, count: int) -> tuple[float, ...]:
    logs = np.quantile(np.log(boxes[:, 3] / boxes[:, 2]), (np.arange(count) + 0.5) / count)
    return tuple(float(f"{value:.2g}") for value in np.exp(logs))


def _sample(boxes: Sequence | np.ndarray) -> np.ndarray:
    places = np.linspace(0, len(boxes) - 1, min(len(boxes), MOST_BOXES)).round().astype(int)
    return np.asarray(boxes)[places]


def _rounded(size: float) -> float:
    return round(size) if size >= 8 else round(size, 2)
