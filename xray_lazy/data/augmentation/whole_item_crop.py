"""Crops that cut no item: half a knife looks like something else, and its box is no longer the item's."""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.ranges import check_range
from xray_lazy.errors import UserError

Window = tuple[int, int, int, int]  # left, top, right, bottom


class RandomWholeItemCrop(T.Augmentation):
    """Cut out a window in which every item is wholly or not at all.

    Args:
        sides: smallest and largest width and height of the window, as shares of the image's; each is drawn apart.
        tries: windows that are drawn until one cuts no item. Where all do, the one that lacks least grows until it
            cuts none: dense bags stay large.
    """

    def __init__(self, sides: Sequence[float] = (0.5, 1.0), tries: int = 10):
        super().__init__()
        check_range("a crop", "sides", sides, above=0, most=1)
        if tries < 1:
            raise UserError(f"a crop can't be found in {tries} tries", "give tries of 1 or more")
        self.sides, self.tries = sides, tries

    def get_transform(self, image: np.ndarray, boxes: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        items = whole_pixels(boxes)
        best, least = (0, 0, width, height), float("inf")
        for _ in range(self.tries):
            drawn = self._drawn(height, width)
            window = grown(drawn, items)
            growth = _area(window) - _area(drawn)
            if growth < least:
                best, least = window, growth
            if not growth:
                break
        left, top, right, bottom = best
        return T.CropTransform(left, top, right - left, bottom - top, width, height)

    def _drawn(self, height: int, width: int) -> Window:
        low, high = self.sides
        tall, wide = (max(1, round(side * np.random.uniform(low, high))) for side in (height, width))
        top, left = np.random.randint(height - tall + 1), np.random.randint(width - wide + 1)
        return left, top, left + wide, top + tall


def whole_pixels(boxes: np.ndarray) -> np.ndarray:
    """The pixels that boxes (N, 4) xyxy touch, as boxes of whole numbers; empty boxes are left out."""
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    return np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int)


def grown(window: Window, items: np.ndarray) -> Window:
    """The smallest window around `window` that cuts none of the boxes (N, 4) xyxy."""
    while True:
        left, top, right, bottom = window
        inside = items[
            (items[:, 0] < right) & (items[:, 2] > left) & (items[:, 1] < bottom) & (items[:, 3] > top)
        ]  # each of them at least in part
        if not len(inside):
            return window
        low, high = inside[:, :2].min(0), inside[:, 2:].max(0)
        larger = min(left, int(low[0])), min(top, int(low[1])), max(right, int(high[0])), max(bottom, int(high[1]))
        if larger == window:
            return window
        window = larger


def _area(window: Window) -> int:
    left, top, right, bottom = window
    return (right - left) * (bottom - top)
