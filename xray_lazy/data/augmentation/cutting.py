"""Single items out of scans of bags: what they alone let through, the bag behind them divided out."""

from typing import Any, NamedTuple

import cv2
import numpy as np

from xray_lazy.data.augmentation.transmission import silhouette, silhouette_step, white_level
from xray_lazy.data.masks.mask_rasters import MaskWindow

# How far around an item is looked at for what is behind it: a share of its size, and at least this many pixels
SURROUNDINGS, LEAST_SURROUNDINGS = 0.2, 6
# Pixels over which an item's edge is blurred, and pixels that are kept around its mask
EDGE = 2
# A mask that was found fills its box so far (intersection over union of the two boxes)
LEAST_BOX_OVERLAP = 0.75
# and goes on outside along no more than this share of the box's edge, where it is something larger
MOST_LEAKING = 0.08
# Mean attenuation (natural logarithm) of an item
LEAST_ATTENUATION = 0.12
# An item's pixels attenuate more than this share of the bag around it, and their median this many times as much
CLUTTER, LEAST_CONTRAST = 0.95, 2.0
# So wide, as a share of its box's shorter side, are most parts of an item, by area
SOLID, LEAST_SOLID = 0.06, 0.7
# Grey level of the bag behind an item, in its darkest channel: of less, what an item lets through is noise; and the
# share of an item that may have less
DARKEST, MOST_DARK = 40, 0.25
# Weight of what a coarser level of a pyramid says, where that of a whole pixel is 1
OF_COARSER = 1e-3


class Cut(NamedTuple):
    """An item: `transmission` (h, w, 3) uint8, 255 for all, and `bits` (h, w) bool, its mask; in its tight box with a
    margin for its blurred edge."""

    transmission: np.ndarray
    bits: np.ndarray


class Unusable(Exception):
    """Why an item can't be cut out, in words that follow "1 item"."""


def cut_by_mask(image: np.ndarray, mask: MaskWindow, others: np.ndarray) -> Cut:
    """Cut an annotated item out of a bag.

    Args:
        image: (H, W, 3) uint8.
        mask: of the item.
        others: (H, W) bool, where other items are.

    Raises:
        Unusable: it lets nearly all through, or the bag behind it nearly nothing.
    """
    box = mask.box()
    left, top, right, bottom = _window(box, image.shape)
    bits = np.zeros((bottom - top, right - left), bool)
    inside = mask.tight()
    x, y = inside.left - left, inside.top - top
    bits[y : y + inside.bits.shape[0], x : x + inside.bits.shape[1]] = inside.bits
    seen = _logarithms(image[top:bottom, left:right])
    behind = _fill(seen, ~(_grown(bits, EDGE + 1) | others[top:bottom, left:right]))
    _refuse_dark(behind, bits)
    return _finished(behind - seen, bits)


def cut_by_box(image: np.ndarray, box: tuple[float, float, float, float], others: np.ndarray) -> Cut:
    """Cut an item out of a bag, of which only the box is known: what attenuates more than all that is around the box.

    The bag behind the item is estimated from around the box, the item is told apart, and the bag is estimated again
    from around the item, so that nothing of the box itself comes along.

    Args:
        image: (H, W, 3) uint8.
        box: xyxy pixels.
        others: (H, W) bool, where other items are.

    Raises:
        Unusable: the item can't be told apart from the bag.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(value) for value in box)
    tight = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    left, top, right, bottom = _window(tight, image.shape)
    in_box = np.zeros((bottom - top, right - left), bool)
    in_box[tight[1] - top : tight[3] - top, tight[0] - left : tight[2] - left] = True
    usable = ~others[top:bottom, left:right]
    if (usable & ~in_box).sum() < 0.5 * (~in_box).sum() or in_box.all():
        raise Unusable("of which the surroundings can't be seen")
    seen = _logarithms(image[top:bottom, left:right])
    around = usable & ~in_box
    attenuation, clutter = _unexplained(seen, around, min(tight[2] - tight[0], tight[3] - tight[1]))
    bits = _without_specks((attenuation > clutter) & in_box)
    near_box = _grown(in_box, 2 * EDGE) & ~_grown(in_box, EDGE)
    if ((attenuation > clutter) & near_box & _grown(bits, 2 * EDGE + 1)).sum() > MOST_LEAKING * near_box.sum():
        raise Unusable("that can't be told apart from what is around")
    # nearer to the item, what is in its box with it is known too
    around |= usable & (attenuation < clutter / 2)
    behind = _fill(seen, around & ~_grown(bits, EDGE + 1))
    attenuation = behind - seen
    bits = (attenuation.mean(2) > clutter) & in_box
    # without the pinholes of noise
    bits = _without_specks(cv2.morphologyEx(bits.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0)
    _refuse_doubtful(attenuation.mean(2), clutter, bits, in_box)
    _refuse_dark(behind, bits)
    return _finished(attenuation, bits)


def cut_single(image: np.ndarray) -> Cut:
    """Cut out what an image of one item alone shows.

    Raises:
        Unusable: there is nothing in the image.
    """
    white = white_level(image)
    attenuation = np.log(white) - _logarithms(image)
    bits = (attenuation.mean(2) > LEAST_ATTENUATION / 2).astype(np.uint8)
    # what is outside of all bags is dust and the tunnel's curtain
    near = cv2.resize(silhouette(image, white), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    grown = cv2.dilate(near, np.ones((8 * silhouette_step(image.shape) + 1,) * 2, np.uint8))
    bits = _without_specks((bits & grown).astype(bool))
    if not bits.any():
        raise Unusable("of which nothing can be seen")
    return _finished(attenuation, bits)


def _finished(attenuation: np.ndarray, bits: np.ndarray) -> Cut:
    """The item in its tight box; `attenuation` (h, w, 3) fades out along the edge of its mask."""
    if not bits.any() or attenuation.mean(2)[bits].mean() < LEAST_ATTENUATION:
        raise Unusable("that lets nearly all through")
    kept = _grown(bits, 1).astype(np.float32)
    fading = np.minimum(1, 2 * cv2.GaussianBlur(kept, (2 * EDGE + 1, 2 * EDGE + 1), 0)) * _grown(bits, EDGE)
    let_through = 255 * np.exp(-np.maximum(attenuation, 0) * fading[..., None])
    left, top, right, bottom = MaskWindow(0, 0, bits).box()
    rows, columns = slice(max(top - EDGE, 0), bottom + EDGE), slice(max(left - EDGE, 0), right + EDGE)
    return Cut(np.rint(let_through[rows, columns]).astype(np.uint8), bits[rows, columns])


def _refuse_dark(behind: np.ndarray, bits: np.ndarray) -> None:
    """Where the bag is black in a channel already, dividing by it gives any colour."""
    if bits.any() and (behind.min(2)[bits] < np.log(DARKEST)).mean() > MOST_DARK:
        raise Unusable("behind which the bag lets nearly nothing through")


def _unexplained(seen: np.ndarray, around: np.ndarray, extent: int) -> tuple[np.ndarray, float]:
    """Attenuation (h, w) that the bag's mean `around` doesn't explain, and how much of it the bag's own clutter has."""
    coarse = _fill(seen, around, finest=max(1, round(np.log2(max(extent, 8) / 4))))
    attenuation = (coarse - seen).mean(2)
    return attenuation, max(float(np.quantile(attenuation[around], CLUTTER)), LEAST_ATTENUATION / 2)


def _without_specks(bits: np.ndarray) -> np.ndarray:
    """The parts of a mask that have a fair share of it; an item may be of several."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(bits.astype(np.uint8), connectivity=8)
    if count < 2:
        return bits
    areas = facts[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas >= 0.1 * areas.max()))


def _refuse_doubtful(attenuation: np.ndarray, clutter: float, bits: np.ndarray, in_box: np.ndarray) -> None:
    doubt = Unusable("that can't be told apart from what is around")
    if not bits.any() or np.median(attenuation[bits]) < LEAST_CONTRAST * clutter:
        raise doubt
    found = MaskWindow(0, 0, bits).box()
    shared = (found[2] - found[0]) * (found[3] - found[1]) / in_box.sum()  # it lies inside of the box
    rest = np.abs(attenuation[in_box & ~_grown(bits, EDGE)])
    is_clear = not rest.size or np.quantile(rest, 0.8) < np.median(attenuation[bits]) / LEAST_CONTRAST
    # edges and specks of something larger, or of much that is small
    width = max(2, round(SOLID * min(found[2] - found[0], found[3] - found[1])))
    solid = cv2.morphologyEx(bits.astype(np.uint8), cv2.MORPH_OPEN, np.ones((width, width), np.uint8)).sum()
    if shared < LEAST_BOX_OVERLAP or solid < LEAST_SOLID * bits.sum() or not is_clear:
        raise doubt


def _window(box: tuple[int, int, int, int], size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A box with its surroundings, xyxy, inside an image of `size` (height, width)."""
    left, top, right, bottom = box
    margin = LEAST_SURROUNDINGS + round(SURROUNDINGS * max(right - left, bottom - top))
    return max(left - margin, 0), max(top - margin, 0), min(right + margin, size[1]), min(bottom + margin, size[0])


def _logarithms(image: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(image, 1).astype(np.float32))


def _grown(bits: np.ndarray, by: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    return cv2.dilate(bits.astype(np.uint8), kernel).astype(bool)


def _fill(values: np.ndarray, known: np.ndarray, finest: int = 1) -> np.ndarray:
    """Smooth values (h, w, 3) everywhere from those at `known` places, of which the nearest count.

    From coarse to fine: each level of the pyramid takes its own means where it has any, else those of the coarser one.
    At the `finest` level a mean is of about 2 ** finest pixels along each axis.
    """
    if not known.any():
        return np.full_like(values, values.max())
    weight = known.astype(np.float32)
    levels: list[tuple[Any, Any]] = [(values * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1:
        levels.append((cv2.pyrDown(levels[-1][0]).reshape(*_half(levels[-1][1]), 3), cv2.pyrDown(levels[-1][1])))
    total, weight = levels.pop()
    filled = total / np.maximum(weight, 1e-6)[..., None]
    while levels:
        total, weight = levels.pop()
        filled = cv2.pyrUp(filled, dstsize=weight.shape[::-1])
        if len(levels) >= finest:
            filled = (total + OF_COARSER * filled) / (weight + OF_COARSER)[..., None]
    return filled


def _half(weight: np.ndarray) -> tuple[int, int]:
    return (weight.shape[0] + 1) // 2, (weight.shape[1] + 1) // 2
