"""Where in a scene something can be put: inside of bags, not on what is annotated, and where the bag isn't black."""

from functools import cached_property

import cv2
import numpy as np

from xray_lazy.data.augmentation.mixing import Scene
from xray_lazy.data.augmentation.transmission import every_nth, silhouette, silhouette_step, white_level
from xray_lazy.data.image_transforms import boxes_of

# Places that are tried for an item
TRIES = 32
# A place is moved away from a known one by so much of the bag's extent (standard deviation)
JITTER = 0.1
# Pixels of an item that are looked at
MOST_POINTS = 192


class BagPlaces:
    """The bags of a scene, what they let through and what is taken, on every n-th row and column of the image.

    Attributes:
        bags: (h, w) uint8 of 0 and 1, the inside of their silhouettes.
        step: n.
        attenuation: (h, w) float32, natural logarithm, mean of the channels.
    """

    def __init__(self, scene: Scene):
        self.step = silhouette_step(scene.size)
        seen = every_nth(scene.image, self.step)
        white = white_level(seen)
        # without their outermost pixels, which lie on both sides of an outline
        self.bags = cv2.erode(silhouette(seen, white), np.ones((3, 3), np.uint8))
        levels = np.maximum(np.arange(256, dtype=np.float32), 1)[:, None] / white
        logarithms = cv2.LUT(seen, -np.log(np.minimum(levels, 1))[:, None] / 3)
        self.attenuation = cv2.transform(logarithms, np.ones((1, 3), np.float32))
        self._inside = np.flatnonzero(self.bags)
        self._taken = np.zeros(self.bags.shape, bool)
        for box in boxes_of([annotation for annotation in scene.annotations if not annotation["iscrowd"]]):
            left, top, right, bottom = (max(round(float(value) / self.step), 0) for value in box)
            self._taken[top : bottom + 1, left : right + 1] = True

    def __bool__(self) -> bool:
        """Whether there is any bag."""
        return len(self._inside) > 0

    def find(
        self,
        bits: np.ndarray,
        random: np.random.Generator,
        known: np.ndarray | None = None,
        most_attenuation: float = np.inf,
        most_overlap: float = 1.0,
    ) -> tuple[int, int] | None:
        """A place (left, top) for the mask of an item, in pixels of the image, or None where some tries found none.

        Args:
            bits: (height, width) of the item, which is to be wholly inside of a bag.
            known: places (N, 2) in the boxes of bags, x and y from 0 to 1, near one of which it shall be.
            most_attenuation: of what is there already, its mean.
            most_overlap: share of it on what is annotated.
        """
        rows, columns = np.nonzero(bits[:: self.step, :: self.step])
        if not len(rows):
            return None
        extent = np.array([bits.shape[1], bits.shape[0]]) / self.step
        middles = self._near(known, random) if known is not None else self._anywhere(random)
        corners = np.floor(middles - extent / 2).astype(np.int64)
        height, width = self.bags.shape
        points = (rows * width + columns)[:: -(-len(rows) // MOST_POINTS)]
        # the last rows and columns of an item lie between those that are looked at
        last = np.floor(corners + extent).astype(np.int64)
        inside = (corners >= 0).all(1) & (last[:, 0] < width) & (last[:, 1] < height)
        for x, y in corners[inside].tolist():
            under = points + (y * width + x)
            if (
                self.bags.take(under).all()
                and self.attenuation.take(under).mean() <= most_attenuation
                and self._taken.take(under).mean() <= most_overlap
            ):
                return x * self.step, y * self.step
        return None

    def take(self, left: int, top: int, bits: np.ndarray, attenuation: float) -> None:
        """Remember that an item of this mean attenuation was put there."""
        small = bits[:: self.step, :: self.step].astype(bool)
        y, x = top // self.step, left // self.step
        place = slice(y, y + small.shape[0]), slice(x, x + small.shape[1])
        self._taken[place] |= small
        self.attenuation[place] += attenuation * small

    @cached_property
    def _boxes(self) -> np.ndarray:
        """Left, top, width, height and area of each bag."""
        return cv2.connectedComponentsWithStats(self.bags)[2][1:]

    def _anywhere(self, random: np.random.Generator) -> np.ndarray:
        pixels = self._inside[random.integers(len(self._inside), size=TRIES)]
        return np.stack([pixels % self.bags.shape[1], pixels // self.bags.shape[1]], 1).astype(float)

    def _near(self, known: np.ndarray, random: np.random.Generator) -> np.ndarray:
        ends = np.cumsum(self._boxes[:, cv2.CC_STAT_AREA])
        chosen = self._boxes[np.searchsorted(ends, random.integers(ends[-1], size=TRIES), side="right")]
        places = known[random.integers(len(known), size=TRIES)] + random.normal(0, JITTER, (TRIES, 2))
        return chosen[:, :2] + places * chosen[:, 2:4]
