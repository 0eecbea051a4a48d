"""detectron2's transforms on images, the frequent ones done faster: the same geometry, near-equal pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image
from torch.nn import functional as F


class PlainInput(T.AugInput):
    """What augmentations work on: each does its own work, and an image keeps one pixel at least on each side.

    Args:
        image: (height, width, channels).
        annotations: the items in it, for augmentations that ask for `boxes`.
        file_name: of the image, for those that ask for that.
    """

    def __init__(self, image: np.ndarray, annotations: Sequence[dict] = (), file_name: str = ""):
        self._annotations, self._done = annotations, []
        super().__init__(image)
        self.file_name = file_name

    @property
    def boxes(self) -> np.ndarray:
        """Of the items, where they are by now: (N, 4) float32, xyxy pixels. Made when asked for, as most don't ask."""
        return moved_boxes(self._annotations, T.TransformList(self._done), self.image.shape[:2])

    @boxes.setter
    def boxes(self, boxes: None) -> None:
        """detectron2 sets None where it is told of none."""

    def transform(self, tfm: T.Transform) -> None:
        keep_a_pixel(tfm, self.image.shape[:2])
        leave_padding_empty(tfm)
        self._done.append(tfm)
        self.image = self._transformed(tfm)

    def _transformed(self, transform: T.Transform) -> np.ndarray:
        return transform.apply_image(self.image)


class ImageInput(PlainInput):
    """As `PlainInput`, faster. Draws nothing itself, so that seeded runs see what they do with `T.AugInput`.

    Resizing bilinearly and flipping are done here; every other transform, a subclass of these too, does its own work.
    """

    def _transformed(self, transform: T.Transform) -> np.ndarray:
        return transform_image(self.image, transform)


def moved_boxes(annotations: Sequence[dict], transforms: T.TransformList, size: tuple[int, int]) -> np.ndarray:
    """Boxes after `transforms`, clipped to an image of `size` (height, width): (N, 4) float32, xyxy pixels."""
    if not annotations:
        return np.zeros((0, 4), np.float32)
    height, width = size
    return transforms.apply_box(boxes_of(annotations)).clip(0, [width, height, width, height]).astype(np.float32)


def boxes_of(annotations: Sequence[dict]) -> np.ndarray:
    """Boxes of annotations, (N, 4) float64, xyxy pixels."""
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
    modes = np.array([annotation["bbox_mode"] for annotation in annotations])
    for mode in set(modes.tolist()):
        boxes[modes == mode] = BoxMode.convert(boxes[modes == mode], BoxMode(mode), BoxMode.XYXY_ABS)
    return boxes


def keep_a_pixel(transform: T.Transform, size: tuple[int, int]) -> None:
    """Let a resize or a crop leave a very thin image one pixel, where its share rounds to none.

    In place, as boxes follow; `size` is (height, width) of the image.
    """
    if isinstance(transform, T.ResizeTransform):
        transform.new_h, transform.new_w = max(transform.new_h, 1), max(transform.new_w, 1)
    elif isinstance(transform, T.CropTransform):
        transform.h, transform.w = max(transform.h, 1), max(transform.w, 1)
        transform.y0, transform.x0 = min(transform.y0, size[0] - 1), min(transform.x0, size[1] - 1)


def leave_padding_empty(transform: T.Transform) -> None:
    """Let no mask cover what an image is filled up with: detectron2 means that for semantic segmentation, which has
    a value for it. In place.
    """
    if isinstance(transform, T.TransformList):
        for part in transform.transforms:
            leave_padding_empty(part)
    elif isinstance(transform, T.PadTransform):
        transform.seg_pad_value = 0


def transform_image(image: np.ndarray, transform: T.Transform) -> np.ndarray:
    """`transform.apply_image(image)`; of a resize, values may differ by 1 from Pillow's (more than 70 dB)."""
    if isinstance(transform, T.TransformList):
        for part in transform.transforms:
            image = transform_image(image, part)
        return image
    if image.dtype in (np.uint8, np.float32) and image.ndim == 3:
        if type(transform) is T.ResizeTransform and transform.interp == Image.Resampling.BILINEAR:
            return resize(image, transform.new_h, transform.new_w)
        if type(transform) is T.HFlipTransform:
            return _flip(image, 1)
        if type(transform) is T.VFlipTransform:
            return _flip(image, 0)
    return transform.apply_image(image)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with anti-aliasing, as Pillow defines it: (H, W, C), uint8 or float32, to (height, width, C)."""
    if image.shape[:2] == (height, width):
        return image
    # pixels stay interleaved through this view, which is nearly twice as fast here as planes
    channels_last = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    resized = F.interpolate(channels_last, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def as_planes(image: np.ndarray) -> torch.Tensor:
    """(H, W, C) as a tensor (C, H, W), without a copy where its channels are planes already."""
    planes = image.transpose(2, 0, 1)
    if image.dtype != np.uint8 or image.shape[2] != 3 or planes.flags.c_contiguous:
        return torch.from_numpy(np.ascontiguousarray(planes))
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    split: Any = cv2.split  # its types leave out that numpy's arrays will do
    split(np.ascontiguousarray(image), list(planes))
    return torch.from_numpy(planes)


def on_planes(
    image: np.ndarray, change: Callable[[np.ndarray, np.ndarray | None], np.ndarray], size: tuple[int, int]
) -> np.ndarray:
    """`change(image, None)`, which OpenCV does, of an image whose channels lie side by side; planes stay planes.

    Args:
        change: of an image or of one of its channels; it writes into its second argument where that is an array.
        size: (height, width) of what comes out.
    """
    planes = image.transpose(2, 0, 1)
    if not planes.flags.c_contiguous:
        return change(np.ascontiguousarray(image), None).reshape(*size, -1)  # OpenCV drops an only channel
    changed = np.empty((len(planes), *size), image.dtype)
    for plane, place in zip(planes, changed, strict=True):
        change(plane, place)
    return changed.transpose(1, 2, 0)


def _flip(image: np.ndarray, axis: int) -> np.ndarray:
    """In OpenCV's counting of axes, 1 is the horizontal one."""
    return on_planes(image, lambda plane, place: cv2.flip(plane, axis, place), image.shape[:2])
