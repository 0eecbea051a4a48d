"""Background mixing: patches of other bags behind a bag's own things."""

from collections.abc import Sequence

import cv2
import numpy as np

from xray_lazy.data.augmentation.mixing import OtherRecords, Scene
from xray_lazy.data.augmentation.ranges import MOST_ITEMS, check_range, check_share
from xray_lazy.data.augmentation.transmission import (
    put_behind,
    silhouette,
    silhouette_step,
    transmission,
    white_level,
)
from xray_lazy.data.image_transforms import boxes_of

# Places in the other image that are tried for a patch without annotated items
TRIES = 8
# A patch fades in over this share of its side
FADING = 0.2


class BackgroundMixing:
    """Multiplies patches of another bag of the training set into bags; annotations stay (a part of `mapper.mixing`).

    After Liu et al., "BGM: Background Mixup for X-ray Prohibited Items Detection" (arXiv 2412.00460), which mixes at
    the level of patches what gives bags their contours and materials. Patches fade in, so that they have no edges; they
    show nothing outside of bags, and nothing that is annotated in the other image.

    Args:
        probability: that an image gets patches.
        patches: how many, from and to; fewer where the other image has no place without items.
        size: of a patch, as a share of the image's sides, from and to.
        strength: how much of the other bag's attenuation is taken over, from and to; 1 for all.
    """

    def __init__(
        self,
        probability: float = 0.5,
        patches: Sequence[int] = (1, 4),
        size: Sequence[float] = (0.15, 0.4),
        strength: Sequence[float] = (0.3, 0.8),
    ):
        check_share("background mixing", "probability", probability)
        check_range("background mixing", "patches", patches, least=1, most=MOST_ITEMS, whole=True)
        check_range("background mixing", "size", size, above=0, most=1)
        check_range("background mixing", "strength", strength, above=0, most=1)
        self.probability, self.patches, self.size, self.strength = probability, patches, size, strength

    def __call__(self, scene: Scene, random: np.random.Generator, others: OtherRecords) -> Scene:
        if random.random() >= self.probability:
            return scene
        other = others.draw(random)
        bags, step = silhouette(scene.image), silhouette_step(scene.size)
        inside = np.flatnonzero(bags)
        if other is None or not len(inside):
            return scene
        white, items = white_level(other.image), boxes_of(other.annotations)
        for _ in range(int(random.integers(self.patches[0], self.patches[1] + 1))):
            share = random.uniform(self.size[0], self.size[1], 2)
            height, width = (max(1, min(round(share[axis] * scene.size[axis]), other.size[axis])) for axis in range(2))
            source = _free_place(other, (height, width), items, random)
            middle = np.divmod(inside[int(random.integers(len(inside)))], bags.shape[1])
            top, left = (
                int(np.clip(middle[axis] * step - side // 2, 0, scene.size[axis] - side))
                for axis, side in enumerate((height, width))
            )
            strength = random.uniform(self.strength[0], self.strength[1])
            if source is None:
                continue
            patch = other.image[source[1] : source[1] + height, source[0] : source[0] + width]
            weight = strength * _fading(height, width) * _part(bags, step, left, top, height, width)
            attenuated = 255 - transmission(np.ascontiguousarray(patch), white)
            let_through = 255 - cv2.multiply(attenuated, cv2.merge([weight] * 3), dtype=cv2.CV_8U)
            put_behind(scene.image[top : top + height, left : left + width], let_through)
        return scene


def _free_place(
    scene: Scene, size: tuple[int, int], items: np.ndarray, random: np.random.Generator
) -> tuple[int, int] | None:
    """The corner (left, top) of a patch (height, width) in which no item lies."""
    height, width = size
    left = random.integers(scene.size[1] - width + 1, size=TRIES)
    top = random.integers(scene.size[0] - height + 1, size=TRIES)
    apart = (
        (items[:, 0] >= left[:, None] + width)
        | (items[:, 2] <= left[:, None])
        | (items[:, 1] >= top[:, None] + height)
        | (items[:, 3] <= top[:, None])
    ).all(1)
    free = np.flatnonzero(apart)
    return (int(left[free[0]]), int(top[free[0]])) if len(free) else None


def _fading(height: int, width: int) -> np.ndarray:
    """Weights (height, width) float32 of a patch: 1 in its middle, towards 0 at its edges."""
    sides = []
    for side in (height, width):
        distance = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)) / (FADING * side + 1)
        sides.append(np.sin(np.pi / 2 * np.minimum(distance, 1)).astype(np.float32) ** 2)
    return sides[0][:, None] * sides[1]


def _part(bags: np.ndarray, step: int, left: int, top: int, height: int, width: int) -> np.ndarray:
    """The silhouettes of a part of an image, (height, width) float32, soft at their edges."""
    small = cv2.erode(bags, np.ones((3, 3), np.uint8))
    part = small[top // step : (top + height - 1) // step + 1, left // step : (left + width - 1) // step + 1]
    whole = cv2.resize(part.astype(np.float32), None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(whole[top % step : top % step + height, left % step : left % step + width])
