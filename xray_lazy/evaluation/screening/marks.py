"""Which detections of a set are right and which are false marks, for the FROC curve (Bunch et al. 1978)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xray_lazy.evaluation.resampling import ends_of_ties
from xray_lazy.evaluation.screening.bags import BoxesOfImage, box_ious

IOU = 0.5


@dataclass(frozen=True)
class Marks:
    """Of D detections in a number of images, matched as COCO does at IoU 0.5.

    Attributes:
        scores: (D,); right: (D,) bool. Those on crowd regions are not among them.
        images, items: how many there are.
    """

    scores: np.ndarray
    right: np.ndarray
    images: int
    items: int

    @classmethod
    def joined(cls, parts: Sequence["Marks"]) -> "Marks":
        return cls(
            np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
            np.concatenate([np.zeros(0, bool), *(part.right for part in parts)]),
            sum(part.images for part in parts),
            sum(part.items for part in parts),
        )

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """False marks per image, and the share of the items that are found, at each threshold from infinity down."""
        order = np.argsort(-self.scores, kind="stable")
        ends, right = ends_of_ties(self.scores[order]), self.right[order]
        false, found = np.append(0, (~right).cumsum()[ends]), np.append(0, right.cumsum()[ends])
        return false / max(self.images, 1), found / max(self.items, 1)


def marks_of(image: BoxesOfImage) -> Marks:
    """The marks of one image."""
    order = np.argsort(-image.scores, kind="stable")
    right, counts = np.zeros(len(order), bool), np.ones(len(order), bool)
    if len(order) and len(image.items):
        ious = box_ious(image.boxes, image.items, image.crowd)
        fits = (ious >= IOU) & (image.classes[:, None] == image.item_classes)
        is_free = ~image.crowd
        for place in order[fits[order].any(axis=1)]:
            free = np.flatnonzero(fits[place] & is_free)
            if len(free):
                right[place] = True
                is_free[free[np.argmax(ious[place, free])]] = False
            else:
                counts[place] = not (fits[place] & image.crowd).any()
    return Marks(image.scores[counts], right[counts], 1, int((~image.crowd).sum()))
