"""Which items a model takes for which, misses or makes up, over a data set and on each of its pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from xray_lazy.evaluation.coco_metrics import Problem, hotcoco_evaluation


@dataclass(frozen=True)
class PictureMistakes:
    """How many items of a picture were found, how many missed, and how many detections show none of their class."""

    image_id: int | str
    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for an empty picture in which nothing was found."""
        mistakes = self.missed + self.false
        return 2 * self.found / (2 * self.found + mistakes) if mistakes else 1.0


@dataclass(frozen=True)
class Mistakes:
    """What was taken for what, and where.

    Attributes:
        confusion: (K + 1, K + 1) counts in the order of the category ids; rows are the truth, columns the detections.
            The last column counts missed items, the last row detections where nothing is.
        pictures: all of the data set's, the worst first: by F1, then by the number of mistakes.
    """

    confusion: np.ndarray
    pictures: list[PictureMistakes]


def find_mistakes(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: Literal["bbox", "segm"],
    score_threshold: float = 0.5,
    max_detections: int = 100,
) -> Mistakes:
    """Match detections to the ground truth at IoU 0.5, as COCO does; needs hotcoco.

    In `confusion` a detection may match an item of any class; in `pictures` only one of its own, so that an item that
    is taken for another is missed and its detection false. Crowd regions count as neither.

    Args:
        ground_truth, detections: as `coco_metrics` takes them.
        score_threshold: detections below it are left out.
        max_detections: so many count per picture and class, the best first.

    Raises:
        UserError: as `coco_metrics`.
    """
    shown = [detection for detection in detections if detection["score"] >= score_threshold]
    problem = Problem.build(ground_truth, shown, iou_type, max_detections)
    evaluation = hotcoco_evaluation(problem)
    evaluation.evaluate()
    diagnostics = evaluation.image_diagnostics(iou_thr=0.5)
    pictures = []
    for position, image_id in enumerate(problem.image_ids, 1):
        counts = diagnostics["img_summary"].get(position, {})
        pictures.append(PictureMistakes(image_id, counts.get("tp", 0), counts.get("fn", 0), counts.get("fp", 0)))
    pictures.sort(key=lambda picture: (picture.f1, -picture.missed - picture.false))
    # hotcoco's matrix would count detections on crowd regions as false; they have no status
    counted = [detection for detection in problem.detections if detection["id"] in diagnostics["dt_status"]]
    confusion = hotcoco_evaluation(replace(problem, detections=counted)).confusion_matrix(iou_thr=0.5)["matrix"]
    return Mistakes(confusion.astype(np.int64), pictures)
