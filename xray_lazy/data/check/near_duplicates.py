"""The same scan although its pixels differ: compressed again, resized, brighter or darker, cropped a little, mirrored.

Low frequencies of a thumbnail, whose signs make a perceptual hash, tell which images may be the same. Of these the
thumbnails are aligned and compared by their pixels.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from scipy.fft import dctn

SIDE = 64  # of a thumbnail, in pixels
# Cosine of low frequencies: of 30,000 pairs of different bags one has more, of cropped copies nearly all.
LEAST_NEAR = 0.67
# The correlation of aligned thumbnails: that of copies is above 0.98, that of the most similar bags below 0.94.
LEAST_ALIKE = 0.97
_FREQUENCIES = 12  # along each side
_MARGIN = 5  # pixels that may be lacking at each edge of a thumbnail
_LEAST_CONTRAST = 4.0  # standard deviation: there is nothing to compare on an empty belt
_BLOCK = 512
_MIRRORS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # steps through the rows and columns
_ALIGNMENT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-4)


def thumbnail(image: np.ndarray) -> bytes:
    """What is kept of an image (height, width, 3) uint8 to compare it with others."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).tobytes()


def same_scans(thumbnails: Sequence[bytes]) -> list[int]:
    """A number for each thumbnail: the position of the first one that shows the same scan."""
    first = list(range(len(thumbnails)))

    def root(position: int) -> int:
        while first[position] != position:
            first[position] = position = first[first[position]]
        return position

    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE, SIDE)
    with ThreadPoolExecutor() as pool:
        for pairs in _similar_pairs(pixels):
            apart = [pair for pair in pairs if root(pair[0]) != root(pair[1])]
            alike = list(pool.map(lambda pair: _are_alike(pixels, *pair), apart))
            for (one, other, _), is_same in zip(apart, alike, strict=True):
                if is_same:
                    early, late = sorted((root(one), root(other)))
                    first[late] = early
    return [root(position) for position in range(len(first))]


def _similar_pairs(pixels: np.ndarray) -> Iterator[list[tuple[int, int, int]]]:
    """Positions of pairs that may show the same scan, and which of `_MIRRORS` the second is to be seen in, in parts."""
    shown = np.flatnonzero(pixels.std(axis=(1, 2)) >= _LEAST_CONTRAST) if len(pixels) else np.zeros(0, int)
    vectors = _low_frequencies(pixels[shown])
    # of a mirrored image, the frequencies that are odd along the mirrored side change their sign
    rows, columns = np.divmod(np.arange(1, _FREQUENCIES**2), _FREQUENCIES)
    signs = [np.where(rows % 2, down, 1) * np.where(columns % 2, right, 1) for down, right in _MIRRORS]
    for start in range(0, len(vectors), _BLOCK):
        pairs = []
        for mirror, sign in enumerate(signs):
            likeness = (vectors[start : start + _BLOCK] * sign.astype(np.float32)) @ vectors[start:].T
            ones, others = np.nonzero(likeness > LEAST_NEAR)
            later = others > ones
            pairs += zip(shown[start + ones[later]], shown[start + others[later]], itertools.repeat(mirror))
        yield pairs


def _low_frequencies(pixels: np.ndarray) -> np.ndarray:
    """Unit vectors (image, frequency); the mean brightness is none of them, and contrast doesn't count.

    Roots lie between signs, which take all of them for equal, and values, of which the largest few decide alone.
    """
    blocks = [
        dctn(pixels[start : start + _BLOCK].astype(np.float32), axes=(1, 2))[:, :_FREQUENCIES, :_FREQUENCIES]
        for start in range(0, len(pixels), _BLOCK)
    ]
    vectors = np.concatenate(blocks).reshape(len(pixels), -1)[:, 1:] if blocks else np.zeros((0, 1), np.float32)
    vectors = np.sign(vectors) * np.sqrt(np.abs(vectors))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _are_alike(pixels: np.ndarray, one: int, other: int, mirror: int) -> bool:
    """Whether two thumbnails correlate once the middle of the one is laid on the other, moved and stretched to fit."""
    down, right = _MIRRORS[mirror]
    middle = np.ascontiguousarray(pixels[one][_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
    whole = np.ascontiguousarray(pixels[other][::down, ::right])
    start = np.array([[1, 0, _MARGIN], [0, 1, _MARGIN]], np.float32)
    everywhere = np.ones(whole.shape, np.uint8)
    try:
        likeness, _ = cv2.findTransformECC(middle, whole, start, cv2.MOTION_AFFINE, _ALIGNMENT, everywhere, 3)
    except cv2.error:  # it finds no place where the two have anything in common
        return False
    return likeness >= LEAST_ALIKE
