"""Outlines of a bitmap along the edges of its pixels, so that drawing them gives the same bitmap."""

import numpy as np


def outlines(bitmap: np.ndarray) -> tuple[list[list[float]], int]:
    """The polygons [x, y, x, y, ...] around the parts of a mask (height, width), and how many holes they fill."""
    import shapely

    padded = np.pad(bitmap.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    area = shapely.union_all(shapely.box(starts, rows, ends, rows + 1))
    parts = [part for part in shapely.get_parts(area) if part.area]
    rings = [shapely.simplify(part.exterior, 0) for part in parts]
    holes = sum(len(part.interiors) for part in parts)
    return [[float(value) for point in ring.coords[:-1] for value in point] for ring in rings], holes
