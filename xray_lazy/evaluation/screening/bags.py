"""The scores of bags: the best detection of each class, and the best one that shows an item that is there."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from pycocotools import mask as mask_util

NEVER = -np.inf  # the score of a bag without any detection


def box_ious(boxes: np.ndarray, items: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(D, G) of xywh boxes; of a crowd region the detection's own area counts, as COCO has it."""
    return np.asarray(mask_util.iou(boxes.astype(float), items.astype(float), crowd.astype(np.uint8)))


@dataclass(frozen=True)
class HitRule:
    """When a detection shows an item.

    Attributes:
        kind: `iou`: their boxes overlap enough; `centre`: the centre of the detection lies in the item's box.
        iou: that is enough.
    """

    kind: Literal["iou", "centre"] = "iou"
    iou: float = 0.5

    def __str__(self) -> str:
        return f"IoU of at least {self.iou:g}" if self.kind == "iou" else "centre in the item's box"

    def overlaps(self, boxes: np.ndarray, items: np.ndarray, crowd: np.ndarray) -> np.ndarray:
        """Which of D boxes shows which of G items, (D, G) bool; both as xywh, (D, 4) and (G, 4).

        Of a crowd region (G,) bool a detection needs not cover much: its own area counts, as COCO has it.
        """
        if not len(boxes) or not len(items):
            return np.zeros((len(boxes), len(items)), bool)
        if self.kind == "iou":
            # equal boxes may have an IoU of a little less than 1; COCO's matching has the same bound
            return np.greater_equal(box_ious(boxes, items, crowd), min(self.iou, 1 - 1e-10))
        centres = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
        inside = (centres >= items[:, :2]) & (centres <= items[:, :2] + items[:, 2:])
        return np.all(inside, axis=2)


@dataclass(frozen=True)
class BoxesOfImage:
    """Items and detections of one image; boxes are xywh in pixels, classes count from 0.

    Attributes:
        bag: which bag the image shows; several images may show one.
        items: (G, 4); item_classes: (G,); crowd: (G,) bool.
        boxes: (D, 4); classes, scores: (D,).
        size: width and height, which the places of boxes along an axis are shares of.
    """

    bag: Hashable
    items: np.ndarray
    item_classes: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    size: tuple[float, float] = (1.0, 1.0)

    def judged(self, rule: HitRule) -> "Judged":
        """The detections, each by itself."""
        over = rule.overlaps(self.boxes, self.items, self.crowd)
        shown = over[:, ~self.crowd]
        of_class = self.classes[:, None] == self.item_classes
        right = (shown & of_class[:, ~self.crowd]).any(axis=1)
        # on a crowd region of its class a detection is neither right nor wrong, as in COCO's metrics
        counts = right | ~(over & of_class & self.crowd).any(axis=1)
        return Judged(right, counts, np.any(shown, axis=1))


class Judged(NamedTuple):
    """Of D detections, (D,) bool each.

    Attributes:
        right: it shows an item of its class.
        counts: it is right or wrong, and not on a crowd region.
        shows: it shows an item of any class.
    """

    right: np.ndarray
    counts: np.ndarray
    shows: np.ndarray


@dataclass(frozen=True)
class BagScores:
    """Of B bags and K classes. A score is that of the best detection, `NEVER` where there is none.

    Attributes:
        bags: their names (B,), in the order of their first images.
        shows: (B, K) bool; whether an item of the class is in the bag.
        alarm: (B, K) of any detection of the class that is not on a crowd region.
        hit: (B, K) of one that shows an item of its class.
        hit_of_any: (B,) of one that shows an item, whatever its class.
    """

    bags: list
    shows: np.ndarray
    alarm: np.ndarray
    hit: np.ndarray
    hit_of_any: np.ndarray

    @property
    def is_threat(self) -> np.ndarray:
        """(B,) bool; whether any item is in the bag."""
        return np.any(self.shows, axis=1)

    @property
    def of_all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`is_threat`, and the best alarm and hit of any class, (B,) each."""
        return self.is_threat, *(scores.max(axis=1, initial=NEVER) for scores in (self.alarm, self.hit))

    def only(self, chosen: np.ndarray) -> "BagScores":
        """Those that `chosen` (B,) bool names."""
        bags = [bag for bag, is_chosen in zip(self.bags, chosen, strict=True) if is_chosen]
        return BagScores(bags, *(of[chosen] for of in (self.shows, self.alarm, self.hit, self.hit_of_any)))


def score_bags(images: Iterable[BoxesOfImage], classes: int, rule: HitRule | None = None) -> BagScores:
    """Score all bags; memory grows with bags and classes, not with detections.

    Args:
        images: each once; those of one bag need not follow one another.
        classes: how many there are.
        rule: when a detection shows an item.
    """
    rule = rule or HitRule()
    numbers: dict[Hashable, int] = {}
    shows, alarm, hit, any_hit = [], [], [], []
    for image in images:
        number = numbers.setdefault(image.bag, len(numbers))
        if number == len(shows):
            shows.append(np.zeros(classes, bool))
            alarm.append(np.full(classes, NEVER))
            hit.append(np.full(classes, NEVER))
            any_hit.append(NEVER)
        shows[number][image.item_classes[~image.crowd]] = True
        right, counts, shown = image.judged(rule)
        np.maximum.at(alarm[number], image.classes[counts], image.scores[counts])
        np.maximum.at(hit[number], image.classes[right], image.scores[right])
        any_hit[number] = max(any_hit[number], image.scores[shown].max(initial=NEVER))
    shape = (len(numbers), classes)
    return BagScores(
        list(numbers),
        np.array(shows, bool).reshape(shape),
        np.array(alarm, float).reshape(shape),
        np.array(hit, float).reshape(shape),
        np.array(any_hit, float),
    )
