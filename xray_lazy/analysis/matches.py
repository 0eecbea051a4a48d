"""Which detection matches which item, at each of COCO's IoU thresholds: the table that the other parts count in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xray_lazy.evaluation.coco_metrics import RECALLS, Problem, hotcoco_evaluation

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
NOTHING = -1


@dataclass(frozen=True)
class Matches:
    """COCO's matching of D detections and G items (crowd regions among them) at 10 IoU thresholds.

    Attributes:
        problem: what was matched; rows below are in the order of its detections and annotations.
        classes: number of classes.
        scores: (D,); picture, category: (D,) places in the problem's images and categories.
        counted: (D,) bool; whether a detection is among the `max_detections` of its picture and class.
        match: (10, D) the row of the matching item, or NOTHING.
        ignored: (10, D) bool; on a crowd region, where a detection is neither right nor wrong.
        item_picture, item_category: (G,); crowd: (G,) bool; item_match: (10, G) row of the detection, or NOTHING.
    """

    problem: Problem
    scores: np.ndarray
    picture: np.ndarray
    category: np.ndarray
    counted: np.ndarray
    match: np.ndarray
    ignored: np.ndarray
    item_picture: np.ndarray
    item_category: np.ndarray
    crowd: np.ndarray
    item_match: np.ndarray

    @property
    def classes(self) -> int:
        return len(self.problem.categories)

    @property
    def right(self) -> np.ndarray:
        """(10, D) bool."""
        return (self.match != NOTHING) & ~self.ignored & self.counted

    @property
    def wrong(self) -> np.ndarray:
        """(10, D) bool."""
        return (self.match == NOTHING) & ~self.ignored & self.counted


def match(problem: Problem) -> Matches:
    """Match with hotcoco."""
    evaluation = hotcoco_evaluation(problem)
    evaluation.params.area_rng = [[0, 1e10]]
    evaluation.params.area_rng_lbl = ["all"]
    evaluation.evaluate()
    place = {category["id"]: index for index, category in enumerate(problem.categories)}
    count, items = len(problem.detections), len(problem.annotations)
    counted = np.zeros(count, bool)
    matches, ignored = np.full((10, count), NOTHING), np.zeros((10, count), bool)
    item_match = np.full((10, items), NOTHING)
    for cell in filter(None, evaluation.eval_imgs):
        _enter(cell, counted, matches, ignored, item_match)
    return Matches(
        problem=problem,
        scores=np.array([d["score"] for d in problem.detections], float),
        picture=np.array([d["image_id"] - 1 for d in problem.detections], int),
        category=np.array([place[d["category_id"]] for d in problem.detections], int),
        counted=counted,
        match=matches,
        ignored=ignored,
        item_picture=np.array([a["image_id"] - 1 for a in problem.annotations], int),
        item_category=np.array([place[a["category_id"]] for a in problem.annotations], int),
        crowd=np.array([a["iscrowd"] for a in problem.annotations], bool),
        item_match=item_match,
    )


def _enter(
    cell: Mapping[str, Any], counted: np.ndarray, matches: np.ndarray, ignored: np.ndarray, item_match: np.ndarray
) -> None:
    """Write what hotcoco says of one class on one picture into the table; a `Problem`'s ids are rows plus one."""
    detections, items = np.array(cell["dtIds"], int) - 1, np.array(cell["gtIds"], int) - 1
    counted[detections] = True
    if len(detections):
        matches[:, detections] = np.where(cell["dtMatched"], np.array(cell["dtMatches"], int) - 1, NOTHING)
        ignored[:, detections] = cell["dtIgnore"]
    if len(items):
        item_match[:, items] = np.where(cell["gtMatched"], np.array(cell["gtMatches"], int) - 1, NOTHING)


def average_precision(right: np.ndarray, wrong: np.ndarray, often: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """COCO's AP of a class at one IoU threshold, in each of B draws of pictures: the mean precision at 101 recalls.

    Args:
        right, wrong: (N,) bool, of the class's detections by falling score.
        often: (B, N) how often each draw has each detection.
        instances: (B,) how many items each draw has.

    Returns:
        (B,) in 0..1; NaN where there are no items.
    """
    counted = np.cumsum(often * (right | wrong), axis=1)[:, right]
    found = np.cumsum(often[:, right], axis=1)
    precision = found / np.maximum(counted, 1)
    # between two detections that are right precision only falls, so that the best to come is at one that is right
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, found / np.maximum(instances, 1)[:, None], side="right")
    newly = np.diff(reached, axis=1, prepend=0)
    return np.where(instances > 0, (envelope * newly).sum(axis=1) / len(RECALLS), np.nan)


def by_falling_score(matches: Matches, category: int) -> np.ndarray:
    """Rows of a class's detections in COCO's order: by score, then by picture."""
    rows = np.flatnonzero(matches.category == category)
    rows = rows[np.lexsort((rows, matches.picture[rows]))]
    return rows[np.argsort(-matches.scores[rows], kind="stable")]
