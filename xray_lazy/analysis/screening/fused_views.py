"""Learned weights for the views of bags: fitted on an evaluation, written, and applied to the detections of another."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xray_lazy.analysis.inputs import Inputs
from xray_lazy.analysis.screening.operating_point import (
    image_sample,
    notes_of_shared_images,
    truth_fingerprint,
)
from xray_lazy.analysis.screening.screening import images_of
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import BoxesOfImage, HitRule, score_bags
from xray_lazy.evaluation.screening.curve import Curve
from xray_lazy.evaluation.screening.figures import FALSE_ALARM_RATES
from xray_lazy.evaluation.screening.view_fusion import FILE_NAME, SCHEMA, Axis, ViewFusion
from xray_lazy.utils.atomic_file import write_json

FOLDS = 5


@dataclass(frozen=True)
class FittedViews:
    """Weights that were fitted on an evaluation.

    Attributes:
        fusion: the weights, for `class_names`.
        bags, images: how many they were fitted on.
        best, fused: P_D in 0..1 at each of `FALSE_ALARM_RATES`, where a bag alarms by the best score of its views, and
            by fused scores of weights that were fitted on the other bags. NaN without clean bags or threats.
        fitted_on: of which set and evaluation.
    """

    fusion: ViewFusion
    class_names: tuple[str, ...]
    bags: int
    images: int
    best: tuple[float, ...]
    fused: tuple[float, ...]
    fitted_on: dict[str, Any]


def fit_views(inputs: Inputs, rule: HitRule, group_by: str | None, axis: Axis, seed: int = 0) -> FittedViews:
    """Fit on all bags, and judge on each fifth with weights of the others.

    Raises:
        UserError: no bag has a second view, or nothing was detected.
    """
    images, names = images_of(inputs, group_by), inputs.matches("bbox").class_names
    bags: dict[Any, list[BoxesOfImage]] = defaultdict(list)
    for image in images:
        bags[image.bag].append(image)
    if len(bags) == len(images):
        raise UserError(
            f"no bag of {inputs.dataset} has a second view",
            "tell which images are one bag: --group-by '^(.+)_[^_]+$', or name bags in the set (docs/datasets.md)",
        )
    if not any(len(image.scores) for image in images):
        raise UserError(f"{inputs.origin} has no detections: there is nothing to weigh", "train the model further")
    folds = np.random.default_rng(seed).permutation(np.arange(len(bags)) % FOLDS)
    across: list[BoxesOfImage] = []
    for fold in range(FOLDS):
        inside, outside = (_joined(bags, folds == fold), _joined(bags, folds != fold))
        across += ViewFusion.fit(outside, len(names), rule, axis).fuse(inside)
    return FittedViews(
        ViewFusion.fit(images, len(names), rule, axis),
        tuple(names),
        len(bags),
        len(images),
        _detections(images, len(names), rule),
        _detections(across, len(names), rule),
        {
            "dataset": inputs.dataset,
            "origin": inputs.origin,
            "evaluation": inputs.evaluation,
            "fingerprint": truth_fingerprint(inputs.ground_truth),
            "image_sample": image_sample(inputs.ground_truth),
            "rule": str(rule),
        },
    )


def write_views(fitted: FittedViews, group_by: str | None, folder: str | os.PathLike) -> Path:
    """Write view_fusion.json; gives its path."""
    path = Path(folder) / FILE_NAME
    weights = fitted.fusion.as_json(fitted.class_names)
    write_json(path, {"schema": SCHEMA, **weights, "group_by": group_by or "", "fitted_on": fitted.fitted_on}, indent=1)
    return path


def with_fused_views(inputs: Inputs, content: Mapping[str, Any], path: str, group_by: str | None) -> Inputs:
    """The evaluation with fused scores, by the content of a file of weights.

    Raises:
        UserError: the file is of other classes, or no bag has a second view.
    """
    images = images_of(inputs, group_by, counted=False)
    if len({image.bag for image in images}) == len(images):
        message = f"{path} weighs the views of bags, and no bag of {inputs.dataset} has a second one"
        raise UserError(message, "leave it out, or tell which images are one bag with --group-by")
    fusion = ViewFusion.from_json(content, inputs.matches("bbox").class_names, path)
    scores = {
        truth["id"]: iter(image.scores.tolist())
        for truth, image in zip(inputs.ground_truth["images"], fusion.fuse(images), strict=True)
    }
    fitted_on, made = content.get("fitted_on"), "the weights for views were fitted"
    return replace(
        inputs,
        detections=[{**one, "score": next(scores[one["image_id"]])} for one in inputs.detections],
        notes=tuple(notes_of_shared_images(fitted_on, inputs.ground_truth, made))
        if isinstance(fitted_on, Mapping)
        else (),
    )


def _joined(bags: Mapping[Any, list[BoxesOfImage]], chosen: np.ndarray) -> list[BoxesOfImage]:
    return [image for views, is_chosen in zip(bags.values(), chosen, strict=True) if is_chosen for image in views]


def _detections(images: Sequence[BoxesOfImage], classes: int, rule: HitRule) -> tuple[float, ...]:
    curve = Curve.of(*score_bags(images, classes, rule).of_all)
    return tuple(curve.detection_at(rate) for rate in FALSE_ALARM_RATES)
