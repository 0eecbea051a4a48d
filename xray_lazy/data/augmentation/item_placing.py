"""How an item gets into a bag: turned and scaled, wholly inside of it, behind or before what is there."""

from collections.abc import Sequence

import cv2
import numpy as np

from xray_lazy.data.augmentation.bag_places import BagPlaces
from xray_lazy.data.augmentation.mixing import Scene
from xray_lazy.data.augmentation.ranges import MOST_SCALE, check_number, check_range
from xray_lazy.data.augmentation.transmission import put_behind
from xray_lazy.data.masks.mask_rasters import MaskWindow
from xray_lazy.utils.limits import Limits

# What bags may attenuate where an item is put that attenuates too much itself
LEAST_ROOM = 0.3
# Noise is drawn once, and each item gets another part of it
NOISE = 512


class ItemPlacing:
    """Puts single items into bags.

    Args:
        part: in messages.
        scale: of an item, from and to.
        rotation: most degrees to either side, besides the quarter turns.
        quarter_turns: turn by 0 to 3 quarters.
        mirror: every second item.
        most_attenuation: of bag and item together, natural logarithm, mean over the item's pixels and the channels.
        most_overlap: share of an item that may lie on annotated boxes, or on other items that were put in.
        noise: standard deviation on the items, grey levels.
    """

    def __init__(
        self,
        part: str,
        scale: Sequence[float],
        rotation: float,
        quarter_turns: bool,
        mirror: bool,
        most_attenuation: float,
        most_overlap: float,
        noise: float = 0.0,
    ):
        check_range(part, "scale", scale, above=0, most=MOST_SCALE)
        for name, value, limits in (
            ("rotation", rotation, Limits(least=0, most=180)),
            ("most_attenuation", most_attenuation, Limits(above=0)),
            ("most_overlap", most_overlap, Limits(least=0, most=1)),
            ("noise", noise, Limits(least=0, most=255)),
        ):
            check_number(part, name, value, limits)
        self.scale, self.rotation = tuple(scale), rotation
        self.quarter_turns, self.mirror = quarter_turns, mirror
        self.most_attenuation, self.most_overlap = most_attenuation, most_overlap
        drawn = np.random.default_rng(0).normal(0, noise, (NOISE, NOISE, 3)) if noise else None
        self._noise = None if drawn is None else drawn.round().astype(np.int16)

    def put(
        self,
        scene: Scene,
        places: BagPlaces,
        item: np.ndarray,
        attenuation: float,
        random: np.random.Generator,
        near: np.ndarray | None = None,
    ) -> MaskWindow | None:
        """Put an item into the scene's image.

        Args:
            places: of the scene; the item's is taken.
            item: (h, w, 4), its transmission in the scene's order of the channels and its mask, from `as_item`.
            attenuation: of the item, from `mean_attenuation`.
            near: places that it shall be near to, as `BagPlaces.find` takes them.

        Returns:
            Its mask; None where there was no place for it.
        """
        transmission, bits = self._turned(item, random)
        room = max(self.most_attenuation - attenuation, LEAST_ROOM)
        place = places.find(bits, random, near, room, self.most_overlap)
        if place is None:
            return None
        self._multiply(scene, transmission, place, random)
        places.take(*place, bits, attenuation)
        return MaskWindow(*place, bits)

    def _turned(self, item: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The item as it is put in: (h, w, 3) uint8, and its mask (h, w) bool."""
        scale = float(random.uniform(self.scale[0], self.scale[1]))
        angle = float(random.uniform(-self.rotation, self.rotation))
        angle += 90 * int(random.integers(4)) if self.quarter_turns else 0
        height, width = item.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
        if self.mirror and random.random() < 0.5:
            matrix = matrix @ np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
        extent = np.abs(matrix[:, :2]) @ (width, height)
        new = max(1, round(extent[0])), max(1, round(extent[1]))
        matrix[:, 2] += (np.array(new) - (width, height)) / 2
        turned = cv2.warpAffine(item, matrix, new, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255, 0))
        return cv2.cvtColor(turned, cv2.COLOR_BGRA2BGR), cv2.extractChannel(turned, 3) >= 128

    def _multiply(
        self, scene: Scene, transmission: np.ndarray, place: tuple[int, int], random: np.random.Generator
    ) -> None:
        left, top = place
        part = scene.image[top : top + transmission.shape[0], left : left + transmission.shape[1]]
        transmission = transmission[: part.shape[0], : part.shape[1]]
        put_behind(part, transmission)
        if self._noise is not None:
            y, x = (int(random.integers(NOISE - min(side, NOISE) + 1)) for side in part.shape[:2])
            noise = self._noise[y : y + part.shape[0], x : x + part.shape[1]]
            on = part[: noise.shape[0], : noise.shape[1]]
            there = transmission[: noise.shape[0], : noise.shape[1]].min(2, keepdims=True) < 250
            on[:] = np.clip(on + noise * there, 0, 255)


def as_item(transmission: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """(h, w, 4) uint8 of what an item lets through (h, w, 3), and of its mask (h, w)."""
    return np.dstack([transmission, 255 * bits.view(np.uint8)])


def mean_attenuation(transmission: np.ndarray, bits: np.ndarray) -> float:
    """Of an item, natural logarithm, over its pixels and the channels."""
    return float(-np.log(np.maximum(transmission[bits], 1) / 255).mean())
