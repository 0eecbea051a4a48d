"""Which items are missed at a threshold: by their size, by what lies on them, and by how much the bag holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xray_lazy.analysis.groups import OCCLUSION_EDGES, OCCLUSION_NAMES, occlusion
from xray_lazy.evaluation.screening.bags import NEVER, BoxesOfImage, HitRule
from xray_lazy.evaluation.screening.threshold_choice import Rate

if TYPE_CHECKING:
    from xray_lazy.analysis.inputs import Inputs

COCO_SIZES = {"small (below 32 px)": 32**2, "medium (32 to 96 px)": 96**2, "large (over 96 px)": np.inf}
ITEMS_IN_BAG = {"1 item": 1, "2 items": 2, "3 or 4 items": 4, "5 items or more": np.inf}
MOST_DEGREES = 10  # of an annotated occlusion; more are no degrees


@dataclass(frozen=True)
class MissedItems:
    """Items of a kind, and the share of them that is missed at each threshold.

    Attributes:
        by: `size`, `size, in thirds`, `overlap`, `occlusion` or `items in the bag`.
        missed: (as many as thresholds) with intervals as if items were missed independently of each other.
    """

    by: str
    name: str
    items: int
    missed: tuple[Rate, ...]


def item_scores(images: Sequence[BoxesOfImage], rule: HitRule) -> list[np.ndarray]:
    """For each image the score (G,) of the best detection that shows the item as what it is."""
    scores = []
    for image in images:
        shown = rule.overlaps(image.boxes, image.items, image.crowd)
        shown = shown & (image.classes[:, None] == image.item_classes)
        scores.append(np.where(shown, image.scores[:, None], NEVER).max(axis=0, initial=NEVER))
    return scores


def missed_items(
    inputs: "Inputs",
    images: Sequence[BoxesOfImage],
    rule: HitRule,
    thresholds: Sequence[Sequence[float] | float],
    confidence: float,
) -> tuple[MissedItems, ...]:
    """Of all items but crowd regions, in groups that have some.

    Args:
        images: all of the ground truth, in its order, with their annotations in theirs.
        thresholds: each one for all classes, or one for each class (K,).
    """
    places = _places(inputs.ground_truth)
    annotations = [inputs.ground_truth["annotations"][place] for place in places]
    scores = np.concatenate([np.zeros(0), *item_scores(images, rule)])
    classes = np.concatenate([np.zeros(0, int), *(image.item_classes for image in images)])
    missed = [scores < _of(threshold, classes) for threshold in thresholds]
    bags = [image.bag for image in images for _ in image.items]
    groups = []
    for by, names, members in _kinds(annotations, occlusion(inputs.ground_truth["annotations"])[places], bags):
        for number, name in enumerate(names):
            chosen = members == number
            if chosen.any():
                rates = tuple(Rate.of(one[chosen], confidence) for one in missed)
                groups.append(MissedItems(by, name, int(chosen.sum()), rates))
    return tuple(groups)


def _kinds(annotations: Sequence[Mapping[str, Any]], shares: np.ndarray, bags: Sequence):
    """What to group by, names of groups, and the number of each item's group (G,); -1 for a crowd region."""
    is_item = np.array([not one["iscrowd"] for one in annotations], bool)
    if not is_item.any():
        return

    def numbered(values: Sequence[float] | np.ndarray, edges: Sequence[float], side: Literal["left", "right"] = "left"):
        return np.where(is_item, np.searchsorted(np.asarray(edges), values, side=side), -1)

    areas = np.array([one.get("area") or one["bbox"][2] * one["bbox"][3] for one in annotations], float)
    yield "size", list(COCO_SIZES), numbered(areas, list(COCO_SIZES.values())[:-1], "right")
    sides = np.sqrt(areas)
    low, high = np.quantile(sides[is_item], [1 / 3, 2 / 3])
    names = [f"up to {low:.0f} px", f"{low:.0f} to {high:.0f} px", f"over {high:.0f} px"]
    yield "size, in thirds", names, numbered(sides, [low, high])
    yield "overlap", list(OCCLUSION_NAMES), numbered(shares, OCCLUSION_EDGES[:-1])
    degrees = [one.get("occlusion") for one in annotations]
    known = sorted({degree for degree in degrees if degree is not None}, key=lambda one: (isinstance(one, str), one))
    if 1 < len(known) <= MOST_DEGREES:
        place = {degree: number for number, degree in enumerate(known)}
        numbers = np.array([place.get(degree, -1) for degree in degrees])
        yield "occlusion", [str(degree) for degree in known], np.where(is_item, numbers, -1)
    counts = Counter(bag for bag, counts in zip(bags, is_item, strict=True) if counts)
    yield (
        "items in the bag",
        list(ITEMS_IN_BAG),
        numbered([counts[bag] for bag in bags], list(ITEMS_IN_BAG.values())[:-1]),
    )


def _places(ground_truth: Mapping[str, Any]) -> list[int]:
    """The annotations in the order of the images."""
    order = {image["id"]: place for place, image in enumerate(ground_truth["images"])}
    annotations = ground_truth["annotations"]
    return sorted(range(len(annotations)), key=lambda place: order[annotations[place]["image_id"]])


def _of(threshold: Sequence[float] | float, classes: np.ndarray) -> np.ndarray:
    values = np.asarray(threshold, float)
    return values[classes] if values.ndim else np.full(len(classes), values)
