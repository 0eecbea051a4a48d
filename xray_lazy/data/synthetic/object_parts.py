"""Parts that objects are made of, and their drawing: where the beam passes through how much of which material."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

from xray_lazy.data.synthetic.materials import Material

# OpenCV takes sub-pixel corners as integers with this many fractional bits.
_FRACTION_BITS = 4


@dataclass(frozen=True)
class Part:
    """One piece of one material.

    Attributes:
        outline: points (N, 2) in cm.
        thickness: along the beam in cm, where the part is thickest.
        profile: how the thickness falls off towards the outline. `plate`: not at all; `round`: as a cylinder or ball;
            `shell`: as a tube, with walls of `wall` cm; `wedge`: evenly, as a blade.
        stroke: where positive, `outline` is an open path and the part is a band of this width in cm along it.
        holes: outlines cut out.
        texture: relative variation of the thickness, over distances of `grain` cm.
    """

    outline: np.ndarray
    material: Material
    thickness: float
    profile: Literal["plate", "round", "shell", "wedge"] = "plate"
    wall: float = 0.05
    stroke: float = 0.0
    holes: Sequence[np.ndarray] = field(default=())
    texture: float = 0.0
    grain: float = 1.0


@dataclass(frozen=True)
class Patch:
    """A drawn object: its attenuation (2, H, W) at both energies and silhouette (H, W) bool, from pixel (left, top)."""

    left: int
    top: int
    attenuation: np.ndarray
    silhouette: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """The patch's rows and columns in the image."""
        height, width = self.silhouette.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


@dataclass(frozen=True)
class Pose:
    """How an object lies in the image.

    Attributes:
        matrix: (2, 2), from cm to pixels.
        center: where the object's origin is, in pixels; a pixel's corner has whole numbers.
        squeeze: what lies out of the image's plane looks shorter by this factor, and is passed on a longer way.
    """

    matrix: np.ndarray
    center: tuple[float, float] = (0.0, 0.0)
    squeeze: float = 1.0

    @classmethod
    def make(cls, scale: float, degrees: float = 0, flip: bool = False, squeeze: float = 1, along: float = 0) -> "Pose":
        """`scale` pixels per cm, turned by `degrees`, squeezed along the object's own direction `along` (degrees)."""
        squeezing = _rotation(along) @ np.diag([squeeze, 1.0]) @ _rotation(-along)
        mirror = np.diag([1.0, -1.0 if flip else 1.0])
        return cls(scale * _rotation(degrees) @ squeezing @ mirror, squeeze=squeeze)

    def at(self, x: float, y: float) -> "Pose":
        return Pose(self.matrix, (x, y), self.squeeze)

    @cached_property
    def scale(self) -> float:
        """Mean pixels per cm."""
        (a, b), (c, d) = self.matrix
        return math.sqrt(abs(a * d - b * c))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points) @ self.matrix.T + self.center


def moved(part: Part, move: Callable[[np.ndarray], np.ndarray]) -> Part:
    """The part with its outline and holes moved by `move`."""
    return replace(part, outline=move(part.outline), holes=[move(hole) for hole in part.holes])


def centered(parts: list[Part]) -> list[Part]:
    """The parts moved so that the middle of their bounds is the origin."""
    points = np.concatenate([part.outline for part in parts])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return [moved(part, lambda p: p - middle) for part in parts]


def extent(parts: Sequence[Part], pose: Pose) -> tuple[float, float, float, float]:
    """The bounds of the object in pixels: left, top, right, bottom."""
    ends = [bounds(part, pose(part.outline), pose.scale) for part in parts]
    low, high = np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)
    return (*low, *high)


def draw(
    parts: Sequence[Part], pose: Pose, size: tuple[int, int], rng: np.random.Generator, supersampling: int = 1
) -> Patch:
    """Draw an object; what lies outside the image of `size` (width, height) is cut off.

    A pixel belongs to the silhouette where at least half of it is covered.
    """
    left, top, right, bottom = extent(parts, pose)
    left, top = max(0, int(left)), max(0, int(top))
    width = max(0, min(size[0], int(np.ceil(right))) - left)
    height = max(0, min(size[1], int(np.ceil(bottom))) - top)
    if width == 0 or height == 0:
        return Patch(0, 0, np.zeros((2, 0, 0), np.float32), np.zeros((0, 0), bool))
    fine_pose = Pose(pose.matrix * supersampling, tuple((np.array(pose.center) - (left, top)) * supersampling))
    shape = (height * supersampling, width * supersampling)
    attenuation = np.zeros((2, *shape), np.float32)
    covered = np.zeros(shape, np.uint8)
    for part in parts:
        _add(part, fine_pose, pose.squeeze, attenuation, covered, rng)
    if supersampling > 1:
        attenuation = np.stack(
            [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in attenuation]
        )
        coverage = cv2.resize(covered * np.float32(1), (width, height), interpolation=cv2.INTER_AREA)
        return Patch(left, top, attenuation, coverage >= 0.5)
    return Patch(left, top, attenuation, covered > 0)


def smooth_noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> np.ndarray:
    """A random field (H, W) in about -1..1 that varies over `cell` pixels."""
    coarse = (max(2, round(shape[0] / cell) + 2), max(2, round(shape[1] / cell) + 2))
    values = rng.uniform(-1, 1, coarse).astype(np.float32)
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _add(part: Part, pose: Pose, squeeze: float, attenuation: np.ndarray, covered: np.ndarray, rng) -> None:
    """Add one part to an object's attenuation (2, H, W) and covered pixels (H, W), in place."""
    outline = pose(part.outline)
    low, high = bounds(part, outline, pose.scale)
    first = np.maximum(np.floor(low).astype(int) - 1, 0)
    last = np.minimum(np.ceil(high).astype(int) + 1, covered.shape[::-1])
    if (last <= first).any():
        return
    window = (slice(first[1], last[1]), slice(first[0], last[0]))
    width, height = (last - first).tolist()
    mask = np.zeros((height, width), np.uint8)
    share = fill(mask, outline - first, [pose(hole) - first for hole in part.holes], part.stroke * pose.scale)
    thickness, _ = chords(part, mask, pose.scale)
    if part.texture:
        grain = max(2.0, part.grain * pose.scale)
        thickness *= np.maximum(1 + part.texture * smooth_noise((height, width), grain, rng), 0.15)
    for plane, per_cm in zip(attenuation, part.material.attenuation(share / squeeze), strict=True):
        cv2.scaleAdd(thickness, per_cm, plane[window], plane[window])
    cv2.bitwise_or(covered[window], mask, covered[window])


def fill(mask: np.ndarray, outline: np.ndarray, holes: list[np.ndarray], stroke: float) -> float:
    """Set the part's pixels to 1; returns how much of a pixel a line thinner than one pixel fills."""
    if not stroke:
        cv2.fillPoly(mask, [_corners(points) for points in (outline, *holes)], 1, shift=_FRACTION_BITS)
        return 1.0
    cv2.polylines(mask, [_corners(outline)], False, 1, max(1, round(stroke)), cv2.LINE_8, _FRACTION_BITS)
    return min(1.0, stroke)


def chords(part: Part, mask: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The material along the beam, and the hollow in its middle, in cm: (H, W) each, zero outside the part."""
    nothing = np.zeros(mask.shape, np.float32)
    if part.profile == "plate":
        return mask * np.float32(part.thickness), nothing
    # Distances are to the nearest pixel outside, so there must be one on each side.
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # The centre of the outermost pixels lies half a pixel inside the outline.
    depth = np.maximum(cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1] - 0.5, 0)
    radius = max(float(depth.max()), 0.5)
    share = np.minimum(depth / radius, 1)
    if part.profile == "wedge":
        return np.float32(part.thickness) * share, nothing
    chord, hollow = np.sqrt(share * (2 - share)), nothing
    if part.profile == "shell":
        inner = max(0.0, 1 - part.wall * scale / radius)
        hollow = np.sqrt(np.maximum(inner**2 - (1 - share) ** 2, 0)) * (share > 0)
    return np.float32(part.thickness) * (chord - hollow), np.float32(part.thickness) * hollow


def bounds(part: Part, points: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest x and y of a part whose outline lies at `points`."""
    margin = part.stroke * scale / 2 + 1 if part.stroke else 0.0
    return points.min(axis=0) - margin, points.max(axis=0) + margin


def _corners(points: np.ndarray) -> np.ndarray:
    """Points for OpenCV, for which a pixel's centre, not its corner, has whole numbers."""
    return np.round((points - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)


def _rotation(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])
