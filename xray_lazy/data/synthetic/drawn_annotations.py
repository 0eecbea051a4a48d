"""COCO annotations of drawn silhouettes: exact run lengths, or polygons for tools that want those."""

import cv2
import numpy as np

from xray_lazy.data.masks.run_lengths import encode
from xray_lazy.data.synthetic.object_parts import Patch

MASK_FORMS = ("rle", "polygon")

# Contours are followed on a mask this many times finer, so that they run along the pixels' edges, not their centres.
_FINER = 4
# Corners that bend a contour by less than this many pixels are left out.
_TOLERANCE = 0.3


def make_annotation(patch: Patch, category_id: int, size: tuple[int, int], masks: str = "rle") -> dict:
    """One instance as COCO has it, without ids of its own and its image.

    Args:
        size: width and height of the image.
        masks: `rle` is exact; `polygon` fills holes, and follows the outline to within half a pixel.
    """
    rows, columns = np.flatnonzero(patch.silhouette.any(axis=1)), np.flatnonzero(patch.silhouette.any(axis=0))
    left, top = patch.left + columns[0], patch.top + rows[0]
    box = [left, top, columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    polygons = outlines(patch) if masks == "polygon" else []
    return {
        "category_id": category_id,
        "bbox": [float(value) for value in box],
        "area": float(patch.silhouette.sum()),
        "iscrowd": 0,
        "segmentation": polygons or run_lengths(patch, size),
    }


def run_lengths(patch: Patch, size: tuple[int, int]) -> dict:
    """The silhouette as COCO's compressed run lengths in an image of `size` (width, height)."""
    canvas = np.zeros(size[::-1], np.uint8, order="F")
    canvas[patch.window] = patch.silhouette
    return encode(canvas)


def outlines(patch: Patch) -> list[list[float]]:
    """The silhouette's outer contours as COCO polygons, [x1, y1, x2, y2, ...]; COCO has no way to write a hole."""
    finer = cv2.resize(patch.silhouette.astype(np.uint8), None, fx=_FINER, fy=_FINER, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(finer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for contour in contours:
        corners = cv2.approxPolyDP(contour, _TOLERANCE * _FINER, True)[:, 0]
        if len(corners) >= 3:
            points = (corners + 0.5) / _FINER + (patch.left, patch.top)
            polygons.append([round(float(value), 2) for value in points.ravel()])
    return polygons
