"""One bag on the belt of a scanner with two generators: from above and from the side, with the belt along the rows."""

from collections.abc import Sequence

import cv2
import numpy as np

from xray_lazy.data.synthetic.clutter import make_clutter
from xray_lazy.data.synthetic.edge_on import Depth, depth_extent, draw_edge_on
from xray_lazy.data.synthetic.items import make_item
from xray_lazy.data.synthetic.luggage import make_luggage
from xray_lazy.data.synthetic.object_parts import Part, Patch, Pose, draw, extent
from xray_lazy.data.synthetic.profiles import ScannerProfile
from xray_lazy.data.synthetic.scene import Scene, add, bag_pose, belt, largest_bag, random_pose, shared_area

VIEWS = ("top", "side")
BAG_DEPTH = (14.0, 24.0)  # cm
ON_EDGE = 0.5  # share of the objects that stand on edge: the view from the side shows their shape, that from above not
_TRIES = 12


def compose_views(
    profile: ScannerProfile, class_names: Sequence[str], rng: np.random.Generator, first: str | None = None
) -> tuple[Scene, Scene]:
    """A random bag as `VIEWS` show it: `compose` with a depth. An item that a view does not show is not in its items.

    Args:
        class_names: classes of the labelled items.
        first: class of the first item; None for a bag without items.
    """
    bag = _Bag(profile, rng)
    for _ in range(rng.integers(*profile.clutter, endpoint=True)):
        bag.put(make_clutter(rng), 1.0)
    if first is not None:
        overlap = rng.choice([0.1, 0.5])
        for name in [first, *rng.choice(class_names, rng.integers(0, profile.most_items))]:
            bag.put(make_item(name, rng), overlap, str(name))
    return bag.scenes


class _Bag:
    """A bag that is filled: what absorbs in both views, and where things may lie."""

    def __init__(self, profile: ScannerProfile, rng: np.random.Generator):
        self.profile, self.rng = profile, rng
        self.scenes = Scene(belt(profile, rng), []), Scene(belt(profile, rng), [])
        luggage = make_luggage(rng, largest_bag(profile))
        self.room, self.pose = luggage.room, bag_pose(luggage.parts, profile, rng)
        height = profile.size[1]
        self.depth = min(rng.uniform(*BAG_DEPTH) * profile.pixels_per_cm, 0.9 * height)
        self.middle = rng.uniform(self.depth / 2, height - self.depth / 2)
        thickest = max(part.thickness for part in luggage.parts) * profile.pixels_per_cm
        self._draw(luggage.parts, self.pose, Depth(self.middle, stretch=self.depth / thickest), False)
        self._outlines: list[tuple[bool, np.ndarray]] = []

    def put(self, parts: list[Part], overlap: float, name: str | None = None) -> None:
        """Lay an object in, or stand it on edge.

        Args:
            overlap: the share of a labelled item that one before it may cover; of a few places the best is taken.
            name: of a labelled item.
        """
        tried = []
        for _ in range(_TRIES):
            on_edge = bool(self.rng.random() < ON_EDGE)
            pose = random_pose(self.profile, self.rng)
            if on_edge and extent(parts, pose)[3] - extent(parts, pose)[1] > self.depth:
                continue
            pose, depth = self._place(parts, pose, on_edge)
            hull = cv2.convexHull(np.concatenate([pose(part.outline) for part in parts]).astype(np.float32))
            covered = max((shared_area(hull, one) for edge, one in self._outlines if edge == on_edge), default=0.0)
            tried.append((covered, pose, depth, on_edge, hull))
            if covered <= overlap:
                break
        if not tried:  # it is too large to stand
            pose, depth = self._place(parts, random_pose(self.profile, self.rng), False)
            tried.append((0.0, pose, depth, False, np.zeros((0, 1, 2), np.float32)))
        _, pose, depth, on_edge, hull = min(tried, key=lambda one: one[0])
        patches = self._draw(parts, pose, depth, on_edge)
        if name is not None:
            self._outlines.append((on_edge, hull))
            for scene, patch in zip(self.scenes, patches, strict=True):
                if patch.silhouette.any():
                    scene.items.append((name, patch))

    def _place(self, parts: list[Part], pose: Pose, on_edge: bool) -> tuple[Pose, Depth]:
        """Where the object lies in the bag, in the view that shows its shape and along that view's beam."""
        depth = Depth.of_tilt(pose, self.rng.choice([-1, 1]))
        left, top, right, bottom = extent(parts, pose)
        shape, edge = (top, bottom), depth_extent(parts, pose, depth)
        bounds = np.array([(left, right), *((edge, shape) if on_edge else (shape, edge))])
        middles, sizes = bounds.mean(axis=1), np.ptp(bounds, axis=1)
        reach = np.maximum(np.array(self.room) / 2 - sizes[:2] / (2 * self.profile.pixels_per_cm), 0)
        x, y = self.pose(self.rng.uniform(-reach, reach))
        free = max(self.depth - sizes[2], 0) / 2
        z = self.middle + self.rng.uniform(-free, free)
        width, height = self.profile.size
        x, y, z = (
            float(np.clip(at, min(1 + size / 2, end / 2), max(end - 1 - size / 2, end / 2))) - middle
            for at, size, middle, end in zip((x, y, z), sizes, middles, (width, height, height), strict=True)
        )
        return (pose.at(x, z), depth.at(y)) if on_edge else (pose.at(x, y), depth.at(z))

    def _draw(self, parts: list[Part], pose: Pose, depth: Depth, on_edge: bool) -> tuple[Patch, Patch]:
        size, finer = self.profile.size, self.profile.supersampling
        shape = draw(parts, pose, size, self.rng, finer)
        edge = draw_edge_on(parts, pose, depth, size, finer)
        patches = (edge, shape) if on_edge else (shape, edge)
        for scene, patch in zip(self.scenes, patches, strict=True):
            add(scene.attenuation, patch)
        return patches
