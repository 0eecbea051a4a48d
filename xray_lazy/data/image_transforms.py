"""detectron2's transforms on 8-bit images, the frequent ones done faster: the same geometry, near-equal pixels."""

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from PIL import Image
from torch.nn import functional as F


class PlainInput(T.AugInput):
    """What augmentations work on: each does its own work, and an image keeps one pixel at least on each side."""

    def transform(self, tfm: T.Transform) -> None:
        keep_a_pixel(tfm, self.image.shape[:2])
        super().transform(tfm)


class ImageInput(T.AugInput):
    """As `PlainInput`, faster. Draws nothing itself, so that seeded runs see what they do with `T.AugInput`.

    Resizing bilinearly and flipping are done here; every other transform, a subclass of these too, does its own work.
    """

    def transform(self, tfm: T.Transform) -> None:
        keep_a_pixel(tfm, self.image.shape[:2])
        self.image = transform_image(self.image, tfm)
        if self.boxes is not None:
            self.boxes = tfm.apply_box(self.boxes)
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)


def keep_a_pixel(transform: T.Transform, size: tuple[int, int]) -> None:
    """Let a resize or a crop leave a very thin image one pixel, where its share rounds to none.

    In place, as boxes follow; `size` is (height, width) of the image.
    """
    if isinstance(transform, T.ResizeTransform):
        transform.new_h, transform.new_w = max(transform.new_h, 1), max(transform.new_w, 1)
    elif isinstance(transform, T.CropTransform):
        transform.h, transform.w = max(transform.h, 1), max(transform.w, 1)
        transform.y0, transform.x0 = min(transform.y0, size[0] - 1), min(transform.x0, size[1] - 1)


def transform_image(image: np.ndarray, transform: T.Transform) -> np.ndarray:
    """`transform.apply_image(image)`; of a resize, values may differ by 1 from Pillow's (more than 70 dB)."""
    if isinstance(transform, T.TransformList):
        for part in transform.transforms:
            image = transform_image(image, part)
        return image
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if type(transform) is T.ResizeTransform and transform.interp == Image.Resampling.BILINEAR:
            return resize(image, transform.new_h, transform.new_w)
        if type(transform) is T.HFlipTransform:
            return _flip(image, 1)
        if type(transform) is T.VFlipTransform:
            return _flip(image, 0)
    return transform.apply_image(image)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with anti-aliasing, as Pillow defines it: (H, W, 3) uint8 to (height, width, 3)."""
    if image.shape[:2] == (height, width):
        return image
    # pixels stay interleaved through this view, which is nearly twice as fast here as planes
    channels_last = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    resized = F.interpolate(channels_last, (height, width), mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def as_planes(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) as a tensor (3, H, W), without a copy where its channels are planes already."""
    planes = image.transpose(2, 0, 1)
    if image.dtype != np.uint8 or image.shape[2] != 3 or planes.flags.c_contiguous:
        return torch.from_numpy(np.ascontiguousarray(planes))
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    split: Any = cv2.split  # its types leave out that numpy's arrays will do
    split(np.ascontiguousarray(image), list(planes))
    return torch.from_numpy(planes)


def _flip(image: np.ndarray, axis: int) -> np.ndarray:
    """In OpenCV's counting of axes, 1 is the horizontal one. Planes stay planes."""
    planes = image.transpose(2, 0, 1)
    if not planes.flags.c_contiguous:
        return cv2.flip(image, axis)
    flipped = np.empty_like(planes)
    for plane, place in zip(planes, flipped, strict=True):
        cv2.flip(plane, axis, place)
    return flipped.transpose(1, 2, 0)
