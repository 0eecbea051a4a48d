"""Transforms of torchvision among detectron2's augmentations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T

from xray_lazy.data.followed_transforms import PixelTransform
from xray_lazy.errors import UserError


class TorchvisionPixels(T.Augmentation):
    """Transforms of torchvision's v2 that change pixels alone, as ColorJitter and GaussianBlur do, one after the other.

    Args:
        transforms: their objects, for images as uint8 tensors (3, height, width).
        image_format: order of the channels, "BGR" or "RGB"; torchvision works on RGB.
    """

    needs_colours = True

    def __init__(self, transforms: Sequence[Any], image_format: str = "BGR"):
        super().__init__()
        for one in transforms:
            if not isinstance(one, torch.nn.Module):
                raise UserError(f"{one!r} is no transform of torchvision", "name it with its `_target_`")
        self.transforms, self.image_format = transforms, image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        seed = int(np.random.randint(2**31))
        return PixelTransform(lambda pixels: self._apply(pixels, seed))

    def _apply(self, image: np.ndarray, seed: int) -> np.ndarray:
        from torchvision import tv_tensors

        height, width = image.shape[:2]
        planes = torch.from_numpy(_as_rgb(image, self.image_format)).permute(2, 0, 1)
        # two boxes that all that moves things would move
        corners = torch.tensor([[0.0, 0.0, width / 3, height / 2], [width / 2, height / 3, width, height]])
        boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width))
        changed, moved = tv_tensors.Image(planes), boxes
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        try:
            for one in self.transforms:
                changed, moved = one(changed, moved)
        finally:
            torch.set_rng_state(state)
        if changed.shape != planes.shape or not torch.equal(moved, corners):
            raise UserError(
                f"{self.transforms} of torchvision move what is in the image",
                "take the geometry from detectron2 (T.RandomFlip, T.RandomRotation, T.ResizeScale ...) or from "
                "xray_lazy.data.augmentation, which boxes and masks follow",
            )
        if changed.dtype != torch.uint8:
            raise UserError(f"{self.transforms} of torchvision make {changed.dtype}", "leave ToDtype and the like out")
        return _as_rgb(changed.permute(1, 2, 0).numpy(), self.image_format)


def _as_rgb(image: np.ndarray, image_format: str) -> np.ndarray:
    """The other way round again, where it is applied twice."""
    return np.ascontiguousarray(image if image_format == "RGB" else image[:, :, ::-1])
