"""Images as transmissions: what a bag lets through, of 1, in each channel. Those of things behind one another multiply.

Pseudo-colours are no intensities of one energy; that their products look like scans of both things at once is what
threat image projection rests on (Bhowmik et al., arXiv 1909.11508).
"""

import cv2
import numpy as np

# Pixels that are looked at along the longer edge: for the white level, and for the silhouette
LOOKED_AT_FOR_WHITE, LOOKED_AT_FOR_BAGS = 160, 240
# A background is bright and nearly grey: least value of its darkest channel, and how far channels are apart in it
LEAST_WHITE, MOST_COLOUR = 150, 32
# Share of the image's pixels that a background has at least, and of those of the largest bright peak
LEAST_SHARE, LEAST_OF_LARGEST = 0.01, 0.08
PEAK = 3  # half the width of the background's peak, in grey levels: noise and JPEG widen it
# Without any background, this share of the pixels is not above the white level
BRIGHTEST = 0.995
# A channel that lets through less than this of the white level has something in it
EMPTY = 0.965
# Share of the image that a bag covers at least: specks and the cords of the tunnel's curtain are none
LEAST_BAG = 1 / 400


def white_level(image: np.ndarray) -> np.ndarray:
    """The intensity of nothing, by channel (3,) float32, from the background that the image shows.

    The background is the brightest frequent and nearly grey level, which a frame of a few brighter pixels is not. An
    image without background gets the brightest values of its channels.
    """
    every = max(1, max(image.shape[:2]) // LOOKED_AT_FOR_WHITE)
    channels = cv2.split(every_nth(image, every))
    darkest, brightest = cv2.min(cv2.min(*channels[:2]), channels[2]), cv2.max(cv2.max(*channels[:2]), channels[2])
    grey = (darkest >= LEAST_WHITE) & (cv2.subtract(brightest, darkest) <= MOST_COLOUR)
    histogram = np.bincount(darkest[grey], minlength=256)
    peaks = np.convolve(histogram, np.ones(2 * PEAK + 1), "same")
    least = max(LEAST_SHARE * darkest.size, LEAST_OF_LARGEST * peaks.max())
    frequent = np.flatnonzero(peaks >= least)
    if not len(frequent):
        return np.array([max(_quantile(channel, BRIGHTEST), 1) for channel in channels], np.float32)
    # the highest place of the brightest peak
    top = int(frequent[-1])
    level = max(range(max(top - 2 * PEAK, 0), top + 1), key=lambda value: (peaks[value], histogram[value]))
    background = grey & (cv2.absdiff(darkest, np.full_like(darkest, level)) <= PEAK)
    return np.array([_quantile(channel[background], 0.5) for channel in channels], np.float32)


def transmission(image: np.ndarray, white: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) uint8 to uint8, 255 for all that comes through; what is brighter than `white` lets all through.

    Args:
        white: the image's white level, by channel; None finds it.
    """
    white = white_level(image) if white is None else white
    levels = np.arange(256, dtype=np.float32)[:, None] / np.maximum(white, 1)
    return cv2.LUT(image, np.rint(255 * np.minimum(levels, 1)).astype(np.uint8)[:, None])


def put_behind(image: np.ndarray, transmitted: np.ndarray) -> None:
    """Multiply an image or a part of one, in place, by the transmission of something else (uint8, 255 for all)."""
    cv2.multiply(image, transmitted, image, scale=1 / 255)


def silhouette(image: np.ndarray, white: np.ndarray | None = None) -> np.ndarray:
    """Where bags are: what is not background, with all that it encloses; (h, w) uint8 of 0 and 1.

    It is of the image's every n-th row and column, n as `silhouette_step` says.
    """
    white = white_level(image) if white is None else white
    every = silhouette_step(image.shape)
    seen = cv2.medianBlur(every_nth(image, every), 3)
    blue, green, red = cv2.split(cv2.LUT(seen, (np.arange(256)[:, None] < EMPTY * white).astype(np.uint8)[:, None]))
    something = cv2.max(cv2.max(blue, green), red)
    # a frame around the image is no bag, and connects bags
    something[:2] = something[-2:] = something[:, :2] = something[:, -2:] = 0
    # fabric lets nearly all through: its outline and what is in it are near one another
    reach = max(3, min(seen.shape[:2]) // 24) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    closed = cv2.morphologyEx(something, cv2.MORPH_CLOSE, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    least = closed.size * LEAST_BAG
    bags = np.zeros_like(closed)
    cv2.drawContours(bags, [outline for outline in outlines if cv2.contourArea(outline) >= least], -1, 1, cv2.FILLED)
    return cv2.morphologyEx(bags, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))


def silhouette_step(size: tuple[int, ...]) -> int:
    """How many rows and columns to step, for an image of `size` (height, width), without missing its silhouette."""
    return max(1, -(-max(size[:2]) // LOOKED_AT_FOR_BAGS))


def every_nth(image: np.ndarray, n: int) -> np.ndarray:
    """Each n-th row and column of an image (H, W, 3)."""
    return image[::n].take(np.arange(0, image.shape[1], n), axis=1)


def _quantile(values: np.ndarray, share: float) -> int:
    """The least of the values (uint8) that so large a share of them doesn't exceed."""
    counts = np.bincount(values.ravel(), minlength=256).cumsum()
    return int(np.searchsorted(counts, share * counts[-1]))
