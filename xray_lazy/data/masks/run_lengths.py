"""COCO's run-length encoding of masks, by pycocotools, as JSON has it: `{"size": [height, width], "counts": text}`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode(bitmap: np.ndarray) -> dict:
    """A bitmap (height, width) of 0 and 1."""
    return as_json(coco_mask.encode(np.asfortranarray(bitmap, dtype=np.uint8)))


def encode_polygons(polygons: Sequence[Any], height: int, width: int) -> dict:
    """The union of polygons [x, y, x, y, ...] in an image of this size."""
    return union(coco_mask.frPyObjects(polygons, height, width))


def union(rles: Sequence[dict]) -> dict:
    """What lies in any of several masks of one size."""
    return as_json(coco_mask.merge([compressed(rle) for rle in rles]))


def compressed(rle: dict) -> dict:
    """A faultless RLE, whose counts may be numbers, as pycocotools takes it."""
    return as_json(coco_mask.frPyObjects(rle, *rle["size"])) if isinstance(rle["counts"], list) else rle


def as_json(rle: dict) -> dict:
    """An RLE of pycocotools, whose counts are bytes."""
    counts = rle["counts"]
    return {**rle, "size": list(rle["size"]), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def run_lengths(counts: bytes | str) -> np.ndarray:
    """Lengths of the runs of 0 and 1 in turns, from the text of a compressed RLE.

    COCO's text has 5 bits of a number in each character, the lowest first, and from the fourth number on the difference
    to the number before the last.
    """
    codes = np.frombuffer(counts.encode() if isinstance(counts, str) else counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if not len(ends):
        return np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    characters = ends - starts + 1
    shift = 5 * (np.arange(ends[-1] + 1) - np.repeat(starts, characters))
    numbers = np.add.reduceat((codes[: ends[-1] + 1] & 0x1F) << shift, starts)
    numbers[(codes[ends] & 0x10) != 0] -= (1 << 5 * characters)[(codes[ends] & 0x10) != 0]
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers
