"""One bag on the belt: luggage, clutter, labelled items, and what all of it absorbs."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from xray_lazy.data.synthetic.clutter import make_clutter
from xray_lazy.data.synthetic.items import make_item
from xray_lazy.data.synthetic.luggage import make_luggage
from xray_lazy.data.synthetic.object_parts import Part, Patch, Pose, draw, extent, smooth_noise
from xray_lazy.data.synthetic.profiles import ScannerProfile


class Scene(NamedTuple):
    """What lies on the belt: attenuation (2, H, W) at the low and the high energy, and the labelled items in it."""

    attenuation: np.ndarray
    items: list[tuple[str, Patch]]


def compose(
    profile: ScannerProfile, class_names: Sequence[str], rng: np.random.Generator, first: str | None = None
) -> Scene:
    """A random bag.

    Args:
        class_names: classes of the labelled items.
        first: class of the first item; None for a bag without items.
    """
    attenuation = belt(profile, rng)
    luggage = make_luggage(rng, largest_bag(profile))
    bag = bag_pose(luggage.parts, profile, rng)
    add(attenuation, draw(luggage.parts, bag, profile.size, rng, profile.supersampling))
    for _ in range(rng.integers(*profile.clutter, endpoint=True)):
        parts = make_clutter(rng)
        pose = _place(parts, random_pose(profile, rng), bag, luggage.room, profile, rng)
        add(attenuation, draw(parts, pose, profile.size, rng, profile.supersampling))
    items: list[tuple[str, Patch]] = []
    if first is not None:
        more = rng.choice(class_names, rng.integers(0, profile.most_items))
        hulls: list[np.ndarray] = []
        overlap = rng.choice([0.1, 0.5])
        for name in [first, *more]:
            parts = make_item(name, rng)
            pose = _place_apart(parts, hulls, overlap, bag, luggage.room, profile, rng)
            patch = draw(parts, pose, profile.size, rng, profile.supersampling)
            add(attenuation, patch)
            items.append((str(name), patch))
    return Scene(attenuation, items)


def belt(profile: ScannerProfile, rng: np.random.Generator) -> np.ndarray:
    """The empty belt: almost calibrated away, with a faint texture along it and the lines of its edges."""
    width, height = profile.size
    texture = smooth_noise((height, width), height / 16, rng)
    texture *= 0.005
    texture += 0.006 + 0.003 * rng.standard_normal((height, 1), dtype=np.float32)
    for at in rng.uniform(0.01, 0.05, 2) * (1, -1):
        row = int(at * height) % height
        texture[row : row + max(1, height // 400)] += 0.06
    return np.stack([1.2 * texture, texture])


def largest_bag(profile: ScannerProfile) -> tuple[float, float]:
    width, height = profile.size
    return 0.88 * width / profile.pixels_per_cm, 0.88 * height / profile.pixels_per_cm


def bag_pose(parts: list[Part], profile: ScannerProfile, rng: np.random.Generator) -> Pose:
    """The bag turned as far as it fits, somewhere in the image."""
    width, height = profile.size
    angle = rng.uniform(-profile.bag_angle, profile.bag_angle)
    while True:
        pose = Pose.make(profile.pixels_per_cm, angle, flip=bool(rng.random() < 0.5))
        left, top, right, bottom = extent(parts, pose)
        if (right - left <= width and bottom - top <= height) or abs(angle) < 2:
            break
        angle *= 0.7
    x = _between(-left, width - right, rng)
    y = _between(-top, height - bottom, rng)
    return pose.at(x, y)


def random_pose(profile: ScannerProfile, rng: np.random.Generator) -> Pose:
    return Pose.make(
        profile.pixels_per_cm,
        degrees=rng.uniform(0, 360),
        flip=bool(rng.random() < 0.5),
        squeeze=rng.uniform(profile.tilt, 1.0),
        along=rng.uniform(0, 180),
    )


def _place(parts, pose: Pose, bag: Pose, room, profile: ScannerProfile, rng: np.random.Generator) -> Pose:
    """The pose moved to a random place where the object lies in the bag's room and in the image."""
    left, top, right, bottom = extent(parts, pose)
    margin = np.array([right - left, bottom - top]) / (2 * profile.pixels_per_cm)
    reach = np.maximum(np.array(room) / 2 - margin, 0)
    middle = np.array([left + right, top + bottom]) / 2
    target = bag(rng.uniform(-reach, reach)) - middle
    low = np.array([1 - left, 1 - top])
    high = np.array([profile.size[0] - 1 - right, profile.size[1] - 1 - bottom])
    return pose.at(*np.clip(target, np.minimum(low, high), np.maximum(low, high)))


def _place_apart(parts, hulls: list[np.ndarray], overlap: float, bag: Pose, room, profile, rng) -> Pose:
    """A pose that covers the items before it by at most `overlap`, or of twelve the one that covers them least."""
    tried: list[tuple[float, Pose, np.ndarray]] = []
    for _ in range(12):
        pose = _place(parts, random_pose(profile, rng), bag, room, profile, rng)
        hull = cv2.convexHull(np.concatenate([pose(part.outline) for part in parts]).astype(np.float32))
        covered = max((shared_area(hull, other) for other in hulls), default=0.0)
        tried.append((covered, pose, hull))
        if covered <= overlap:
            break
    _, pose, hull = min(tried, key=lambda one: one[0])
    hulls.append(hull)
    return pose


def shared_area(one: np.ndarray, other: np.ndarray) -> float:
    """The common area of two convex outlines as a share of the smaller one's."""
    common, _ = cv2.intersectConvexConvex(one, other)
    return common / max(1e-6, min(cv2.contourArea(one), cv2.contourArea(other)))


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    return rng.uniform(low, high) if low < high else (low + high) / 2


def add(attenuation: np.ndarray, patch: Patch) -> None:
    attenuation[(slice(None), *patch.window)] += patch.attenuation
