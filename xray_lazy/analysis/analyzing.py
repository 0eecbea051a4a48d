"""The analysis of detections against ground truth: everything that `results.Analysis` holds."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xray_lazy.analysis.error_kinds import ErrorTable, classify, errors_of_class, label_suspects, tide_errors
from xray_lazy.analysis.groups import by_occlusion, by_scanner, by_size, occlusion
from xray_lazy.analysis.inputs import Inputs
from xray_lazy.analysis.precision_curves import calibration, curve
from xray_lazy.analysis.results import Analysis, ClassResult, Confusion, ImageResult, TaskResult
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import CategoryMetrics, IouType
from xray_lazy.evaluation.matching import Matches, Mistakes

BACKGROUND = "background"
# Below it a detection is no reason to doubt a label, however low the best threshold of a model is.
LEAST_SUSPECT_SCORE = 0.5


def analyze(inputs: Inputs, score_threshold: float | None = None) -> Analysis:
    """Analyze detections; `inputs.inputs_of_run` and `inputs.inputs_of_files` read them.

    Args:
        score_threshold: see `TaskResult.score_threshold`.

    Raises:
        UserError: there is no shape that all detections have.
    """
    truth, detections = inputs.ground_truth, inputs.detections
    crowds = sum(bool(annotation["iscrowd"]) for annotation in truth["annotations"])
    has_masks = any(a.get("segmentation") for a in truth["annotations"]) and all(
        detection.get("segmentation") for detection in detections
    )
    boxed = all(detection.get("bbox") for detection in detections)
    tasks: list[IouType] = [task for task, there in (("bbox", boxed), ("segm", has_masks)) if there]
    if not tasks:
        raise UserError(
            f"the detections of {inputs.origin} have neither all a box, nor all a mask that could be matched",
            "give each a bbox; masks alone do where the ground truth has masks, too",
        )
    shares = occlusion(truth["annotations"])
    return Analysis(
        dataset=inputs.dataset,
        origin=inputs.origin,
        evaluation=inputs.evaluation,
        images=len(truth["images"]),
        instances=len(truth["annotations"]) - crowds,
        crowds=crowds,
        detections=len(detections),
        images_without_detections=len(truth["images"]) - len({d["image_id"] for d in detections}),
        max_detections=inputs.max_detections,
        class_names=tuple(str(c["name"]) for c in sorted(truth["categories"], key=lambda c: c["id"])),
        tasks={task: _analyze_task(inputs, task, shares, score_threshold) for task in tasks},
    )


def _analyze_task(inputs: Inputs, task: IouType, shares: np.ndarray, score_threshold: float | None) -> TaskResult:
    truth, matching = inputs.ground_truth, inputs.matching(task)
    metrics, matches = matching.metrics, matching.matches
    table, curve_of_all = classify(matching), curve(matches)
    threshold = score_threshold
    if threshold is None:
        threshold = 0.5 if math.isnan(curve_of_all.best_threshold) else curve_of_all.best_threshold
    mistakes = matching.mistakes(threshold)
    return TaskResult(
        summary=metrics.summary,
        score_threshold=threshold,
        uncounted=int((~matches.counted).sum()),
        classes=tuple(_class_result(matches, table, threshold, *one) for one in enumerate(metrics.categories)),
        curve=curve_of_all,
        errors=tide_errors(matching, table, threshold),
        confusion=_confusion(matches, mistakes),
        calibration=calibration(matches),
        by_size=by_size(matching, threshold),
        by_scanner=by_scanner(truth, matching, threshold),
        by_occlusion=by_occlusion(matches, shares, threshold),
        worst_pictures=_worst_images(truth, mistakes),
        label_suspects=label_suspects(truth, matching, table, max(threshold, LEAST_SUSPECT_SCORE)),
    )


def _class_result(
    matches: Matches, table: ErrorTable, score_threshold: float, place: int, metrics: CategoryMetrics
) -> ClassResult:
    return ClassResult(
        name=metrics.name,
        category_id=metrics.id,
        instances=metrics.instances,
        images=metrics.images,
        detections=int((matches.category == place).sum()),
        ap=metrics.ap,
        ap50=metrics.ap50,
        ap75=metrics.ap75,
        ar=metrics.ar,
        curve=curve(matches, place),
        interpolated_precision=metrics.precisions50,
        errors=errors_of_class(matches, table, place),
        errors_shown=errors_of_class(matches, table, place, score_threshold),
        ece=calibration(matches, place).ece,
    )


def _confusion(matches: Matches, mistakes: Mistakes) -> Confusion:
    return Confusion((*matches.class_names, BACKGROUND), tuple(map(tuple, mistakes.confusion.tolist())))


def _worst_images(truth: Mapping[str, Any], mistakes: Mistakes) -> tuple[ImageResult, ...]:
    file_names = {image["id"]: image["file_name"] for image in truth["images"]}
    return tuple(
        ImageResult(p.image_id, file_names[p.image_id], p.found, p.missed, p.false, p.f1)
        for p in mistakes.images
        if p.missed or p.false
    )
