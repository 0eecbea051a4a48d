"""Masks of a transformed image, drawn at its size and within their own extent: bit for bit detectron2's.

detectron2 decodes, resizes and copies whole images of bits; an X-ray item covers a few per cent of one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.data import transforms as T
from pycocotools import mask as mask_util

from xray_lazy.data.followed_transforms import PixelTransform, QuarterTurnTransform
from xray_lazy.data.masks.run_lengths import run_lengths
from xray_lazy.errors import UserError

CHANGE_PIXELS_ALONE = (T.NoOpTransform, T.BlendTransform, T.ColorTransform, T.PILColorTransform)


class MaskWindow(NamedTuple):
    """A mask within the part of the image outside of which it is empty.

    left, top: of the window, in pixels; bits: (height, width) of it, bool or uint8.
    """

    left: int
    top: int
    bits: np.ndarray

    def box(self) -> tuple[int, int, int, int]:
        """The tight box, xyxy pixels; all 0 if the mask is empty."""
        left, top, width, height = cv2.boundingRect(self.bits.view(np.uint8)) if self.bits.size else (0, 0, 0, 0)
        if not width:
            return 0, 0, 0, 0
        left, top = self.left + left, self.top + top
        return left, top, left + width, top + height

    def tight(self) -> "MaskWindow":
        """The same mask in its tight box."""
        left, top, right, bottom = self.box()
        rows, columns = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return MaskWindow(left, top, self.bits[rows, columns]) if right else NO_MASK


NO_MASK = MaskWindow(0, 0, np.zeros((0, 0), bool))


class MaskRasters:
    """Draws masks of one image after `transforms`.

    Args:
        transforms: that the image went through.
        source_size: (height, width) of the image before.
        size: (height, width) after.
    """

    def __init__(self, transforms: T.TransformList, source_size: tuple[int, int], size: tuple[int, int]):
        self.transforms, self.source_size, self.size = transforms, source_size, size
        self._places = _sampled_places(transforms, source_size)

    def draw(self, segmentation: list | dict) -> MaskWindow:
        """One mask: polygons `[[x, y, x, y, ...], ...]` or COCO's compressed RLE, of the image before.

        Raises:
            UserError: the RLE is of another size than the image, or its runs are.
        """
        if isinstance(segmentation, list):
            corners = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
            return draw_polygons(self.transforms.apply_polygons(corners), *self.size)
        if tuple(segmentation["size"]) != tuple(self.source_size):
            raise UserError(
                f"a mask is of {segmentation['size'][1]}x{segmentation['size'][0]} pixels, "
                f"its image of {self.source_size[1]}x{self.source_size[0]}",
                "find it with `tools/dataset.py check`",
            )
        if self._places is not None:
            return self._places.sample(segmentation)
        _checked_runs(segmentation)
        return MaskWindow(0, 0, self.transforms.apply_segmentation(mask_util.decode(segmentation))).tight()


def draw_polygons(polygons: Sequence[np.ndarray], height: int, width: int) -> MaskWindow:
    """The union of polygons, each (N, 2) x and y in pixels, as pycocotools draws it in an image of this size."""
    if not polygons:
        return NO_MASK
    corners = np.concatenate(polygons)
    left, right = _window(corners[:, 0], width)
    top, bottom = _window(corners[:, 1], height)
    if right <= left or bottom <= top:
        return NO_MASK
    # moving by whole pixels doesn't change how corners are rounded
    moved = [(polygon - (left, top)).ravel() for polygon in polygons]
    rles = mask_util.frPyObjects(moved, bottom - top, right - left)
    return MaskWindow(left, top, mask_util.decode(mask_util.merge(rles)))


def sample_rle(rle: dict, rows: np.ndarray, columns: np.ndarray) -> MaskWindow:
    """The mask's pixels at `rows` and `columns`, both of which ascend or descend, as an image of that size."""
    x, y, width, height = (int(value) for value in mask_util.toBbox(rle))
    inside_x = np.flatnonzero((columns >= x) & (columns < x + width))
    inside_y = np.flatnonzero((rows >= y) & (rows < y + height))
    if not len(inside_x) or not len(inside_y):
        return NO_MASK
    source = _decode_columns(rle, x, x + width)
    bits = source.take(columns[inside_x] - x, axis=0).take(rows[inside_y], axis=1)
    return MaskWindow(int(inside_x[0]), int(inside_y[0]), bits.T)


def _checked_runs(rle: dict) -> np.ndarray:
    """The run lengths of a compressed RLE; pycocotools reads and writes past the end of others' memory."""
    runs = run_lengths(rle["counts"])
    if not len(runs) or runs.sum() != rle["size"][0] * rle["size"][1] or runs.min() < 0:
        raise UserError("the runs of a mask do not add up to its size", "find it with `tools/dataset.py check`")
    return runs


def _decode_columns(rle: dict, first: int, last: int) -> np.ndarray:
    """Columns `first` to `last` (not included) of a mask, shape `(columns, height)`."""
    height = rle["size"][0]
    runs = _checked_runs(rle)
    ends = runs.cumsum()
    ends = np.clip(ends - first * height, 0, (last - first) * height)
    bits = np.zeros(len(runs), bool)
    bits[1::2] = True
    return np.repeat(bits, np.diff(ends, prepend=0)).reshape(last - first, height)


def _window(values: np.ndarray, size: int) -> tuple[int, int]:
    """First and behind-the-last pixel that corners at `values` can touch along an axis of `size` pixels."""
    # pycocotools rounds corners outside of the image towards it: where there are some, its edge must stay where it is
    low, high = values.min(), values.max()
    return (max(0, math.floor(low) - 1) if low >= 0 else 0), min(size, max(1, math.ceil(high) + 2))


@dataclass
class _Places:
    """Which rows and columns of the image before make up the one after; -1 is what it was filled up with.

    is_turned: the rows of the one after are columns of the one before, and its columns rows.
    """

    rows: np.ndarray
    columns: np.ndarray
    is_turned: bool = False

    def sample(self, rle: dict) -> MaskWindow:
        if not self.is_turned:
            return sample_rle(rle, self.rows, self.columns)
        left, top, bits = sample_rle(rle, self.columns, self.rows)
        return MaskWindow(top, left, bits.T)

    def move(self, transform: T.Transform) -> bool:
        """Follow a transform; False where it makes the image of more than rows and columns."""
        kind = type(transform)
        if kind is T.ResizeTransform:
            self.rows = self.rows[_nearest(len(self.rows), transform.new_h)]
            self.columns = self.columns[_nearest(len(self.columns), transform.new_w)]
        elif kind is T.HFlipTransform:
            self.columns = self.columns[::-1]
        elif kind is T.VFlipTransform:
            self.rows = self.rows[::-1]
        elif kind is QuarterTurnTransform:
            for _ in range(transform.turns):
                self.rows, self.columns, self.is_turned = self.columns[::-1], self.rows, not self.is_turned
        elif kind is T.CropTransform:
            self.rows = self.rows[transform.y0 : transform.y0 + transform.h]
            self.columns = self.columns[transform.x0 : transform.x0 + transform.w]
        elif kind is T.PadTransform:
            self.rows = np.pad(self.rows, (transform.y0, transform.y1), constant_values=-1)
            self.columns = np.pad(self.columns, (transform.x0, transform.x1), constant_values=-1)
        else:
            return kind in CHANGE_PIXELS_ALONE or isinstance(transform, PixelTransform)
        return True


def _sampled_places(transforms: T.TransformList, size: tuple[int, int]) -> _Places | None:
    """None where the image after isn't made of rows and columns of the one before."""
    places = _Places(np.arange(size[0]), np.arange(size[1]))
    return places if all(places.move(transform) for transform in _flat(transforms)) else None


def _flat(transform: T.Transform) -> Iterator[T.Transform]:
    if isinstance(transform, T.TransformList):
        for part in transform.transforms:
            yield from _flat(part)
    else:
        yield transform


def _nearest(size: int, new_size: int) -> np.ndarray:
    """The pixels that Pillow's nearest-neighbour resize takes along an axis; it adds up steps and their roundings."""
    step = size / new_size
    return np.cumsum(np.concatenate([[0.5 * step], np.full(new_size - 1, step)])).astype(np.int64).clip(max=size - 1)
