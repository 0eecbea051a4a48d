"""COCO's run-length encoding of masks, by pycocotools, as JSON has it: `{"size": [height, width], "counts": text}`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

TEXTS_AT_ONCE = 64


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


def first_unsound(rles: Sequence[dict]) -> int | None:
    """The place of the first compressed RLE whose runs do not add up to its size; None where there is none.

    pycocotools counts such a mask as it is, and reads past its end. Many at a time take a quarter of the time that
    `run_lengths` takes for one by one.
    """
    for start in range(0, len(rles), TEXTS_AT_ONCE):
        part = rles[start : start + TEXTS_AT_ONCE]
        cut_off = next((place for place, rle in enumerate(part) if not _is_whole(rle["counts"])), None)
        part = part[:cut_off]
        sizes = np.array([math.prod(rle["size"]) for rle in part])
        unsound = np.flatnonzero(_totals([rle["counts"] for rle in part]) != sizes)
        found = int(unsound[0]) if len(unsound) else cut_off
        if found is not None:
            return start + found
    return None


def _is_whole(text: str) -> bool:
    """Whether it ends with the last character of a number."""
    return bool(text) and not (ord(text[-1]) - 48) & 0x20


def _totals(texts: Sequence[str]) -> np.ndarray:
    """Sums of the run lengths (N,) of texts that are each whole."""
    if not texts:
        return np.zeros(0, np.int64)
    numbers, ends = _numbers("".join(texts).encode())
    last = np.searchsorted(ends, np.cumsum([len(text) for text in texts]) - 1)  # number of each text
    count = np.diff(last, prepend=-1)
    behind = np.repeat(last, count) - np.arange(len(numbers))  # how many numbers of its text follow each
    # from the fourth number on a difference to the number before the last: each counts in every second one that follows
    times = np.where(behind == np.repeat(count - 1, count), 1, behind // 2 + 1)
    return np.add.reduceat(numbers * times, last - count + 1)


def run_lengths(counts: bytes | str) -> np.ndarray:
    """Lengths of the runs of 0 and 1 in turns, from the text of a compressed RLE.

    COCO's text has 5 bits of a number in each character, the lowest first, and from the fourth number on the difference
    to the number before the last.
    """
    numbers, _ = _numbers(counts.encode() if isinstance(counts, str) else counts)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def _numbers(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The numbers in the text of RLEs, and the places of their last characters."""
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if not len(ends):
        return np.zeros(0, np.int64), ends
    starts = np.concatenate([[0], ends[:-1] + 1])
    characters = ends - starts + 1
    shift = 5 * (np.arange(ends[-1] + 1) - np.repeat(starts, characters))
    numbers = np.add.reduceat((codes[: ends[-1] + 1] & 0x1F) << shift, starts)
    numbers[(codes[ends] & 0x10) != 0] -= (1 << 5 * characters)[(codes[ends] & 0x10) != 0]
    return numbers, ends
