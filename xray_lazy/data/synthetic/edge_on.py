"""An object from the side: what a beam sees that runs through the image of `draw` from its top to its bottom."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from xray_lazy.data.synthetic.object_parts import Part, Patch, Pose, bounds, chords, extent, fill


@dataclass(frozen=True)
class Depth:
    """Where an object lies along the beam of `draw`, in pixels of its image.

    Attributes:
        middle: of the object's origin.
        slope: (2,) how it rises from there, per pixel to the right and down.
        stretch: how much deeper it is than its parts are thick, with the same material in all.
    """

    middle: float = 0.0
    slope: tuple[float, float] = (0.0, 0.0)
    stretch: float = 1.0

    @classmethod
    def of_tilt(cls, pose: Pose, sign: int) -> "Depth":
        """Of an object that looks shorter in the image because it rises (or falls, with a `sign` of -1)."""
        directions, lengths, _ = np.linalg.svd(pose.matrix)
        squeeze = lengths[1] / lengths[0]
        rise = sign * np.sqrt(max(1 - squeeze**2, 0)) / squeeze
        return cls(slope=tuple(rise * directions[:, 1]))

    def at(self, middle: float) -> "Depth":
        return Depth(middle, self.slope, self.stretch)


def depth_extent(parts: Sequence[Part], pose: Pose, depth: Depth) -> tuple[float, float]:
    """The bounds of the object along the beam of `draw`, in pixels."""
    middles = [np.asarray(part.outline) @ pose.matrix.T @ depth.slope for part in parts]
    halves = [part.thickness * depth.stretch * _pixels_per_cm(pose) / pose.squeeze / 2 for part in parts]
    low = min(float(middle.min()) - half for middle, half in zip(middles, halves, strict=True))
    high = max(float(middle.max()) + half for middle, half in zip(middles, halves, strict=True))
    return depth.middle + low, depth.middle + high


def draw_edge_on(
    parts: Sequence[Part], pose: Pose, depth: Depth, size: tuple[int, int], supersampling: int = 1
) -> Patch:
    """Draw an object as the other view of the same volume: columns are those of `draw`, rows run along its beam.

    A part is what lies within half of its thickness of its middle plane, without its hollow. What a pixel's beam passes
    is counted exactly, so that both views have the same mass in each column. Texture is left out: it averages out.
    What lies outside the image of `size` (width, height) is cut off.
    """
    left, _, right, _ = extent(parts, pose)
    top, bottom = depth_extent(parts, pose, depth)
    left, top = max(0, int(left)), max(0, int(np.floor(top)))
    width, height = min(size[0], int(np.ceil(right))) - left, min(size[1], int(np.ceil(bottom))) - top
    if width <= 0 or height <= 0:
        return Patch(0, 0, np.zeros((2, 0, 0), np.float32), np.zeros((0, 0), bool))
    fine_pose = Pose(
        pose.matrix * supersampling, tuple((np.array(pose.center) - (left, 0)) * supersampling), pose.squeeze
    )
    shape = (height * supersampling, width * supersampling)
    attenuation, covered = np.zeros((2, *shape), np.float32), np.zeros(shape, bool)
    for part in parts:
        _add(part, fine_pose, depth.at((depth.middle - top) * supersampling), attenuation, covered)
    small = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in attenuation]
    coverage = cv2.resize(covered.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return Patch(left, top, np.stack(small), coverage >= 0.5)


def _add(part: Part, pose: Pose, depth: Depth, attenuation: np.ndarray, covered: np.ndarray) -> None:
    """Add one part to an object's attenuation (2, H, W) and covered pixels (H, W), in place."""
    outline = pose(part.outline)
    low, high = bounds(part, outline, pose.scale)
    first, last = np.floor(low).astype(int) - 1, np.ceil(high).astype(int) + 1
    mask = np.zeros((last - first)[::-1], np.uint8)
    share = fill(mask, outline - first, [pose(hole) - first for hole in part.holes], part.stroke * pose.scale)
    solid, hollow = chords(part, mask, pose.scale)
    rows, columns = np.nonzero(solid)
    x, y = columns + first[0], rows + first[1]
    inside = (x >= 0) & (x < covered.shape[1])
    rows, columns, x, y = rows[inside], columns[inside], x[inside], y[inside]
    middle = depth.middle + (x + 0.5 - pose.center[0]) * depth.slope[0] + (y + 0.5 - pose.center[1]) * depth.slope[1]
    half_pixel = _pixels_per_cm(pose) * depth.stretch / pose.squeeze / 2
    inner, outer = hollow[rows, columns] * half_pixel, (solid + hollow)[rows, columns] * half_pixel
    passed = _overlap(middle - outer, middle + outer, x, covered.shape) - _overlap(
        middle - inner, middle + inner, x, covered.shape
    )
    covered |= passed >= 0.5
    length = passed / (_pixels_per_cm(pose) * depth.stretch)
    for plane, per_cm in zip(attenuation, part.material.attenuation(share), strict=True):
        plane += np.float32(per_cm) * length.astype(np.float32)


def _overlap(low: np.ndarray, high: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How much of each pixel (H, W) the intervals (N,) of its column cover, summed up over intervals."""
    height, width = shape
    places, steps = [], []
    for ends, sign in ((low, 1.0), (high, -1.0)):
        ends = ends.clip(0, height)
        row = np.floor(ends).astype(int)
        part = ends - row
        # an interval that begins within a pixel covers the rest of it, and the whole of all that follow
        places += [row * width + columns, (row + 1) * width + columns]
        steps += [sign * (1 - part), sign * part]
    changes = np.bincount(np.concatenate(places), np.concatenate(steps), (height + 2) * width)
    return changes.reshape(height + 2, width).cumsum(axis=0)[:height]


def _pixels_per_cm(pose: Pose) -> float:
    """Where nothing is squeezed."""
    return float(np.linalg.norm(pose.matrix, 2))
