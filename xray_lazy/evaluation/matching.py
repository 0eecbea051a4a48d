"""Detections matched to the ground truth of a data set, once: all figures, errors and mistakes are read from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from xray_lazy.evaluation.coco_metrics import (
    IouType,
    Metrics,
    Problem,
    count_instances,
    hotcoco_evaluation,
    percent,
    summarize,
)

NOTHING = -1
_WHOLE = (0.0, 1e10)  # COCO's range of areas that holds all
_COCO_RANGES = [(0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10)]
# Sides of a square of an object's area; those of 32 and 96 are COCO's, which has no others.
SIZE_EDGES = (0, 16, 32, 64, 96, 192, 384, math.inf)
SIZE_RANGES = list(pairwise(edge**2 if edge < math.inf else _WHOLE[1] for edge in SIZE_EDGES))  # of areas


@dataclass(frozen=True)
class ImageMistakes:
    """How many objects of an image were found, how many missed, and how many detections show none of their class."""

    image_id: int | str
    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for an empty image in which nothing was found."""
        mistakes = self.missed + self.false
        return 2 * self.found / (2 * self.found + mistakes) if mistakes else 1.0


@dataclass(frozen=True)
class Mistakes:
    """What was taken for what, and where.

    Attributes:
        confusion: (K + 1, K + 1) counts in the order of the category ids; rows are the ground truth, columns the
            detections. The last column counts missed objects, the last row detections where nothing is.
        images: all of the data set's, the worst first: by F1, then by the number of mistakes.
    """

    confusion: np.ndarray
    images: list[ImageMistakes]


@dataclass(frozen=True)
class Matches:
    """Which of D detections matches which of G annotations (crowd regions among them), at COCO's 10 IoU thresholds.

    Attributes:
        image_ids: the data set's own, of the numbers in `image`.
        class_names: by the numbers in `category`.
        scores: (D,); image, category: (D,) from 0.
        counted: (D,) bool; whether a detection is among the `max_detections` of its image and class.
        match: (10, D) the number of the matching annotation, or NOTHING.
        ignored: (10, D) bool; on a crowd region, where a detection is neither right nor wrong.
        annotation_image, annotation_category: (G,); crowd: (G,) bool.
        annotation_match: (10, G) the number of the detection, or NOTHING.
    """

    image_ids: list
    class_names: list[str]
    scores: np.ndarray
    image: np.ndarray
    category: np.ndarray
    counted: np.ndarray
    match: np.ndarray
    ignored: np.ndarray
    annotation_image: np.ndarray
    annotation_category: np.ndarray
    crowd: np.ndarray
    annotation_match: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(10, D) bool."""
        return (self.match != NOTHING) & ~self.ignored & self.counted

    @property
    def wrong(self) -> np.ndarray:
        """(10, D) bool."""
        return (self.match == NOTHING) & ~self.ignored & self.counted

    def mistakes(self, score_threshold: float) -> list[ImageMistakes]:
        """`Mistakes.images` at IoU 0.5 when detections below the threshold are left out.

        Detections match in the order of their scores: those that are left out change nothing for the others.
        """
        shown = self.scores >= score_threshold
        per_image = [
            np.bincount(images, minlength=len(self.image_ids)).tolist()
            for images in (
                self.image[self.right[0] & shown],
                self.image[self.wrong[0] & shown],
                self.annotation_image[~self.crowd],
            )
        ]
        images = [
            ImageMistakes(image_id, found, present - found, false)
            for image_id, found, false, present in zip(self.image_ids, *per_image, strict=True)
        ]
        return sorted(images, key=lambda image: (image.f1, -image.missed - image.false))


class Matching:
    """COCO's matching of one problem, by hotcoco; each part is computed when it is first asked for, and kept.

    COCO matches anew for each range of areas, since objects outside of it are ignored: this is done for all areas
    together, and once for the ranges of size.
    """

    def __init__(self, problem: Problem):
        self.problem = problem

    @cached_property
    def _evaluation(self) -> Any:
        """hotcoco's COCOeval of all areas together."""
        return _evaluated(hotcoco_evaluation(self.problem), [_WHOLE])

    @cached_property
    def _sizes(self) -> Any:
        """Of COCO's three sizes, then of `SIZE_RANGES`."""
        from hotcoco import COCOeval

        evaluation = COCOeval(self._evaluation.coco_gt, self._evaluation.coco_dt, self.problem.iou_type)
        evaluation.params.max_dets = self.problem.detection_limits
        # COCO counts an object on the edge of two sizes in both
        finer = [(low, float(np.nextafter(high, 0))) for low, high in SIZE_RANGES]
        return _evaluated(evaluation, [*_COCO_RANGES, *finer])

    @cached_property
    def metrics(self) -> Metrics:
        """Equal to `coco_metrics`."""
        whole, sizes = self._evaluation.eval, self._sizes.eval
        curves = (
            np.concatenate([whole[name], sizes[name][..., : len(_COCO_RANGES), :]], axis=-2)
            for name in ("precision", "recall", "scores")
        )
        return summarize(self.problem, count_instances(self.problem), *curves)

    @cached_property
    def matches(self) -> Matches:
        """At all areas."""
        problem = self.problem
        place = {category["id"]: index for index, category in enumerate(problem.categories)}
        count, annotations = len(problem.detections), len(problem.annotations)
        counted, ignored = np.zeros(count, bool), np.zeros((10, count), bool)
        match, annotation_match = np.full((10, count), NOTHING), np.full((10, annotations), NOTHING)
        # of one class on one image; ids of a `Problem` count from 1
        for cell in filter(None, self._evaluation.eval_imgs):
            rows, own = np.array(cell["dtIds"], int) - 1, np.array(cell["gtIds"], int) - 1
            counted[rows] = True
            if len(rows):
                match[:, rows] = np.where(cell["dtMatched"], np.array(cell["dtMatches"], int) - 1, NOTHING)
                ignored[:, rows] = cell["dtIgnore"]
            if len(own):
                annotation_match[:, own] = np.where(cell["gtMatched"], np.array(cell["gtMatches"], int) - 1, NOTHING)
        return Matches(
            image_ids=problem.image_ids,
            class_names=[category["name"] for category in problem.categories],
            scores=np.array([d["score"] for d in problem.detections], float),
            image=np.array([d["image_id"] - 1 for d in problem.detections], int),
            category=np.array([place[d["category_id"]] for d in problem.detections], int),
            counted=counted,
            match=match,
            ignored=ignored,
            annotation_image=np.array([a["image_id"] - 1 for a in problem.annotations], int),
            annotation_category=np.array([place[a["category_id"]] for a in problem.annotations], int),
            crowd=np.array([a["iscrowd"] for a in problem.annotations], bool),
            annotation_match=annotation_match,
        )

    def figures_by_size(self) -> list[tuple[float, float, float]]:
        """AP, AP50 and AR in percent in each of `SIZE_RANGES`, as COCO's APs; NaN where there is no object."""
        precision, recall = self._sizes.eval["precision"], self._sizes.eval["recall"]
        return [
            (
                percent(precision[:, :, :, index, -1]),
                percent(precision[0, :, :, index, -1]),
                percent(recall[:, :, index, -1]),
            )
            for index in range(len(_COCO_RANGES), precision.shape[3])
        ]

    def figures_of(self, parts: Mapping[str, Sequence[int]]) -> dict[str, tuple[float, float, float]]:
        """AP, AP50 and AR in percent of some images each, given by their numbers, as if they were all there are."""
        by_name = self._evaluation.slice_by({name: [number + 1 for number in part] for name, part in parts.items()})
        # hotcoco calls the recall with the most detections AR100, however many these are
        return {
            name: (_percent(found["AP"]), _percent(found["AP50"]), _percent(found["AR100"]))
            for name, found in ((name, by_name[name]) for name in parts)
        }

    def tide_errors(self, foreground: float, background: float) -> dict[str, Any]:
        """hotcoco's TIDE figures, without crowd regions and the detections on them: it would find errors there."""
        evaluation = self._evaluation
        if self.matches.crowd.any():
            evaluation = _evaluated(hotcoco_evaluation(self.without_crowds()), [_WHOLE])
        return evaluation.tide_errors(foreground, background)

    def without_crowds(self) -> Problem:
        """The problem without crowd regions and the detections on them."""
        annotations = [annotation for annotation in self.problem.annotations if not annotation["iscrowd"]]
        return replace(self._of_detections(~self.matches.ignored[0]), annotations=annotations)

    def mistakes(self, score_threshold: float) -> Mistakes:
        """At IoU 0.5, of detections of at least `score_threshold`.

        In `confusion` a detection may match an object of any class; in `images` only one of its own, so that an object
        that is taken for another is missed and its detection false. Crowd regions count as neither.
        """
        matches = self.matches
        # a matching without classes; hotcoco would count detections on crowd regions as false
        shown = (matches.scores >= score_threshold) & matches.counted & ~matches.ignored[0]
        confusion = hotcoco_evaluation(self._of_detections(shown)).confusion_matrix(iou_thr=0.5)["matrix"]
        return Mistakes(confusion.astype(np.int64), matches.mistakes(score_threshold))

    def _of_detections(self, chosen: np.ndarray) -> Problem:
        """The problem with those that `chosen` (D,) names."""
        detections = [one for one, is_chosen in zip(self.problem.detections, chosen, strict=True) if is_chosen]
        return replace(self.problem, detections=detections)


def find_mistakes(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: IouType,
    score_threshold: float = 0.5,
    max_detections: int = 100,
) -> Mistakes:
    """`Matching.mistakes` where nothing else is asked: the detections below the threshold are not matched at all.

    Args:
        ground_truth, detections: as `coco_metrics` takes them.
        score_threshold: detections below it are left out.
        max_detections: how many detections count per image and class, the best first.

    Raises:
        UserError: as `coco_metrics`.
    """
    shown = [detection for detection in detections if detection["score"] >= score_threshold]
    return Matching(Problem.build(ground_truth, shown, iou_type, max_detections)).mistakes(score_threshold)


def _evaluated(evaluation: Any, area_ranges: Sequence[tuple[float, float]]) -> Any:
    evaluation.params.area_rng = [list(area_range) for area_range in area_ranges]
    evaluation.params.area_rng_lbl = ["all", *(str(index) for index in range(1, len(area_ranges)))]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _percent(value: float) -> float:
    return 100 * value if value >= 0 else math.nan
