"""Transforms that detectron2 lacks, and that masks follow without being drawn whole: turns, changes of pixels alone."""

from collections.abc import Callable

import cv2
import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.image_transforms import on_planes

OPENCV_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


class QuarterTurnTransform(T.Transform):
    """Turn an image counter-clockwise by `turns` quarters, 0 to 3.

    Args:
        height, width: of the image before.
    """

    def __init__(self, height: int, width: int, turns: int):
        super().__init__()
        self.height, self.width, self.turns = height, width, turns

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        if not self.turns:
            return img
        if img.dtype == np.uint8 and img.ndim == 3:
            size = img.shape[:2] if self.turns == 2 else (img.shape[1], img.shape[0])
            return on_planes(img, lambda plane, place: cv2.rotate(plane, OPENCV_TURNS[self.turns], place), size)
        return np.rot90(img, self.turns).copy()

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return np.rot90(segmentation, self.turns).copy()  # of one pixel, a view would keep its strides

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        x, y = coords[:, 0].copy(), coords[:, 1].copy()
        for turn in range(self.turns):
            x, y = y, (self.height if turn % 2 else self.width) - x
        coords[:, 0], coords[:, 1] = x, y
        return coords

    def inverse(self) -> "QuarterTurnTransform":
        size = (self.width, self.height) if self.turns % 2 else (self.height, self.width)
        return QuarterTurnTransform(*size, -self.turns % 4)


class PixelTransform(T.Transform):
    """`change` of the image's pixels; boxes and masks stay where they are.

    Args:
        change: from an image (height, width, channels) to another of the same size and type, which is not written into.
    """

    def __init__(self, change: Callable[[np.ndarray], np.ndarray]):
        super().__init__()
        self.change = change

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.change(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation
