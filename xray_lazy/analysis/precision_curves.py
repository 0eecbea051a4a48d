"""Precision, recall and F1 by score, average precision, and whether scores are probabilities."""

import math

import numpy as np

from xray_lazy.analysis.results import Calibration, CalibrationBin, Curve
from xray_lazy.evaluation.coco_metrics import RECALLS
from xray_lazy.evaluation.matching import Matches
from xray_lazy.evaluation.resampling import ends_of_ties

MOST_POINTS = 200
BINS = 10


def curve(matches: Matches, category: int | None = None) -> Curve:
    """The curve of a class at IoU 0.5, or of all classes together, each detection counting the same."""
    of_class = np.ones(len(matches.scores), bool) if category is None else matches.category == category
    items = ~matches.crowd if category is None else ~matches.crowd & (matches.annotation_category == category)
    right, wrong = matches.right[0] & of_class, matches.wrong[0] & of_class
    rows = np.flatnonzero(right | wrong)
    instances = int(items.sum())
    if not len(rows) or not instances:
        return Curve()
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    scores = matches.scores[rows]
    ends = ends_of_ties(scores)
    found = np.cumsum(right[rows])[ends]
    precision, recall = found / (ends + 1), found / instances
    f1 = 2 * found / (ends + 1 + instances)
    best = int(f1.argmax())
    kept = _thinned(len(ends), best)
    return Curve(
        scores=tuple(scores[ends][kept].tolist()),
        precision=tuple(precision[kept].tolist()),
        recall=tuple(recall[kept].tolist()),
        f1=tuple(f1[kept].tolist()),
        best=int(np.searchsorted(kept, best)),
    )


def calibration(matches: Matches, category: int | None = None) -> Calibration:
    """Scores in ten bins against the share that is right at IoU 0.5; nothing where scores are not in 0..1."""
    from hotcoco import metrics

    rows = matches.right[0] | matches.wrong[0]
    if category is not None:
        rows &= matches.category == category
    scores, right = matches.scores[rows], matches.right[0][rows]
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return Calibration(math.nan, math.nan, ())
    ece, largest = metrics.calibration_error(scores, right, BINS)
    bins = (
        CalibrationBin(
            lower=one["bin_lower"],
            upper=one["bin_upper"],
            count=one["count"],
            mean_score=one["avg_confidence"] if one["count"] else math.nan,
            share_right=one["avg_accuracy"] if one["count"] else math.nan,
        )
        for one in metrics.calibration_curve(scores, right, BINS)
    )
    return Calibration(ece, largest, tuple(bins))


def average_precision(right: np.ndarray, wrong: np.ndarray, often: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """COCO's AP of a class at one IoU threshold, in each of B draws of images: the mean precision at 101 recalls.

    Args:
        right, wrong: (N,) bool, of the class's detections by falling score.
        often: (B, N) how often each draw has each detection.
        instances: (B,) how many objects each draw has.

    Returns:
        (B,) in 0..1; NaN where there are no objects.
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
    """Rows of a class's detections in COCO's order: by score, then by image."""
    rows = np.flatnonzero(matches.category == category)
    rows = rows[np.lexsort((rows, matches.image[rows]))]
    return rows[np.argsort(-matches.scores[rows], kind="stable")]


def _thinned(count: int, best: int) -> np.ndarray:
    """Places of at most about `MOST_POINTS` of `count` points, with both ends and the best one."""
    places = np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int)
    return np.union1d(places, [best])
