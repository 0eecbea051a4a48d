"""Labels for drawn instances: where they fit without covering items or each other, and how they look."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from xray_lazy.visualization.image_text import draw_text, text_size

# How bad it is to cover, per pixel: another label can't be read then; one's own item is what the image is about.
COST_LABEL, COST_OWN_ITEM, COST_OTHER_ITEM = 10.0, 2.0, 1.0
GAP = 4

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Label:
    """A text for the item at `box` (xyxy, inside the image); colour is BGR, size (width, height) with its margin.

    `ends` are the columns of the item's highest and lowest point, where it has a mask: a label is best found there.
    """

    text: str
    colour: tuple[int, int, int]
    box: Box
    size: tuple[int, int]
    ends: tuple[int, int] | None = None


def label_size(text: str, text_height: int) -> tuple[int, int]:
    """Width and height in pixels of a label with its margin."""
    width, height, descent = text_size(text, text_height)
    margin = _margin(text_height)
    return width + 2 * margin, height + descent + 2 * margin


def place_labels(labels: Sequence[Label], width: int, height: int) -> list[tuple[int, int]]:
    """Upper left corners for labels on an image, in their order.

    Each takes the first place that covers nothing: above its item, below, beside, inside its upper edge; where there is
    none, the place that covers least. Labels stay inside the image if they are not larger than it.
    """
    items = [label.box for label in labels]
    taken: list[Box] = []
    corners = []
    for index, label in enumerate(labels):
        others = items[:index] + items[index + 1 :]
        best = min(_candidates(label, width, height), key=lambda corner: _cost(corner, label, others, taken))
        corners.append(best)
        taken.append(_area_at(best, label))
    return corners


def draw_label(canvas: np.ndarray, label: Label, corner: tuple[int, int], text_height: int) -> None:
    """Draw a label with its upper left corner at `corner`, black or white on its colour."""
    x, y = corner
    width, height = label.size
    blue, green, red = label.colour
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 120 else (255, 255, 255)
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), label.colour, cv2.FILLED)
    margin = _margin(text_height)
    _, ascent, _ = text_size(label.text, text_height)
    draw_text(canvas, label.text, (x + margin, y + margin + ascent), ink, text_height)


def _candidates(label: Label, width: int, height: int) -> list[tuple[int, int]]:
    left, top, right, bottom = label.box
    w, h = label.size
    above, below = top - h - GAP, bottom + GAP + 1
    at_ends = [(label.ends[0] - w // 2, above), (label.ends[1] - w // 2, below)] if label.ends else []
    places = [
        *at_ends,
        (left, above),
        (right - w, above),
        (left, below),
        (right - w, below),
        (right + GAP + 1, top),
        (left - w - GAP, top),
        (right + GAP + 1, bottom - h),
        (left - w - GAP, bottom - h),
        (left + GAP, top + GAP),
        (right - w - GAP, bottom - h - GAP),
    ]
    return [(max(0, min(x, width - w)), max(0, min(y, height - h))) for x, y in places]


def _cost(corner: tuple[int, int], label: Label, others: Sequence[Box], taken: Sequence[Box]) -> float:
    area = _area_at(corner, label)
    return (
        COST_LABEL * sum(_overlap(area, box) for box in taken)
        + COST_OWN_ITEM * _overlap(area, label.box)
        + COST_OTHER_ITEM * sum(_overlap(area, box) for box in others)
    )


def _area_at(corner: tuple[int, int], label: Label) -> Box:
    return corner[0], corner[1], corner[0] + label.size[0], corner[1] + label.size[1]


def _overlap(a: Box, b: Box) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _margin(text_height: int) -> int:
    return max(2, round(text_height / 4))
