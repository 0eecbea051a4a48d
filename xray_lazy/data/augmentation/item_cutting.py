"""All items out of one annotated image, each without the bag and the other items behind it."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.cutting import Cut, Unusable, cut_by_box, cut_by_mask
from xray_lazy.data.image_transforms import boxes_of
from xray_lazy.data.masks.mask_rasters import MaskRasters, MaskWindow

SMALLEST = 12  # shorter side of an item's box, pixels: smaller ones show nothing


def cut_items(
    image: np.ndarray, annotations: Sequence[dict], most_overlap: float, only: Collection[int] | None = None
) -> Iterator[tuple[dict, tuple[int, int, int, int], Cut | Unusable]]:
    """Each annotation that is no crowd region, its box in whole pixels (xyxy), and the item or why it can't be cut out.

    Args:
        image: (H, W, 3) uint8; items have its order of the channels.
        annotations: of the image, as detectron2's dataset dicts have them.
        most_overlap: share of an item's mask that others' masks may cover; boxes stand in for masks that are missing.
        only: cut out the annotations at these places of the sequence, and no others.
    """
    rasters = MaskRasters(T.TransformList([]), image.shape[:2], image.shape[:2])
    masks = [rasters.draw(a["segmentation"]) if "segmentation" in a else None for a in annotations]
    boxes = [_rounded(box, image.shape) for box in boxes_of(annotations)]
    covers = np.zeros(image.shape[:2], np.int32)  # how many items lie on a pixel
    for box, mask in zip(boxes, masks, strict=True):
        _mark(covers, box, mask)
    for place, (annotation, box, mask) in enumerate(zip(annotations, boxes, masks, strict=True)):
        if annotation["iscrowd"] or (only is not None and place not in only):
            continue
        own = np.zeros_like(covers)
        _mark(own, box, mask)
        try:
            yield annotation, box, _cut(image, box, mask, covers > own, most_overlap)
        except Unusable as error:
            yield annotation, box, error


def _mark(covers: np.ndarray, box: tuple[int, int, int, int], mask: MaskWindow | None) -> None:
    """Add one on a mask, or on a box where there is none."""
    if mask is None:
        covers[box[1] : box[3], box[0] : box[2]] += 1
    else:
        height, width = mask.bits.shape
        covers[mask.top : mask.top + height, mask.left : mask.left + width] += mask.bits.astype(bool)


def _cut(
    image: np.ndarray, box: tuple[int, int, int, int], mask: MaskWindow | None, others: np.ndarray, most_overlap: float
) -> Cut:
    left, top, right, bottom = box
    if min(right - left, bottom - top) < SMALLEST or (mask is not None and not mask.bits.any()):
        raise Unusable(f"smaller than {SMALLEST} pixels")
    if left <= 0 or top <= 0 or right >= image.shape[1] or bottom >= image.shape[0]:
        raise Unusable("cut off by the image's edge")
    covered = others[top:bottom, left:right]
    if mask is not None:
        y, x = mask.top, mask.left
        covered = others[y : y + mask.bits.shape[0], x : x + mask.bits.shape[1]][mask.bits.astype(bool)]
    if covered.mean() > most_overlap:
        raise Unusable(f"covered to more than {most_overlap:.0%} by others")
    return cut_by_box(image, box, others) if mask is None else cut_by_mask(image, mask, others)


def _rounded(box: np.ndarray, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A box (4,) in whole pixels of an image of `size` (height, width)."""
    left, top, right, bottom = (round(float(value)) for value in box)
    return max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])
