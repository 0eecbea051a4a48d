"""Choose an operating point on an evaluation, and write operating_point.json."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xray_lazy.analysis.inputs import Inputs
from xray_lazy.analysis.results import plain
from xray_lazy.analysis.screening.operating_point import FILE_NAME, SCHEMA, image_sample, truth_fingerprint
from xray_lazy.analysis.screening.screening import bags_of
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import HitRule
from xray_lazy.evaluation.screening.threshold_choice import (
    Judgement,
    choose_thresholds,
    common_threshold,
    judge,
    judge_across,
)
from xray_lazy.utils.atomic_file import write_json


@dataclass(frozen=True)
class Choice:
    """Thresholds that were chosen on an evaluation.

    Attributes:
        thresholds: by class name, infinite where a class never alarms.
        false_alarms: P_FA in 0..1 that was asked for.
        judgement: at the thresholds, on the bags that they were chosen on: too good.
        across: of each bag at thresholds that were chosen on the others; None for too few bags.
        common, common_judgement: the one threshold for all classes, and what it gives.
        unseen: classes without an item, which have the common threshold.
        chosen_on, view_fusion: see `OperatingPoint`.
        notes: why the figures may not be what they seem.
    """

    thresholds: dict[str, float]
    false_alarms: float
    confidence: float
    judgement: Judgement
    across: Judgement | None
    common: float
    common_judgement: Judgement
    unseen: tuple[str, ...]
    chosen_on: dict[str, Any]
    view_fusion: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON has it; null for a class that never alarms, and for what could not be measured."""
        return plain({"schema": SCHEMA, **asdict(self)})


def choose_operating_point(
    inputs: Inputs,
    false_alarms: float,
    rule: HitRule | None = None,
    group_by: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    view_fusion: Mapping[str, Any] | None = None,
) -> Choice:
    """Thresholds for the detections of an evaluation with P_FA of at most `false_alarms` in 0..1.

    Args:
        rule, group_by: as `screen_inputs`.
        seed: of the folds in which bags are judged.
        view_fusion: the weights by which the scores of these inputs are fused, if they are.

    Raises:
        UserError: there are no clean bags, or no threats.
    """
    rule = rule or HitRule()
    bags = bags_of(inputs, rule, group_by)
    threats, names = int(bags.is_threat.sum()), inputs.matches("bbox").class_names
    if not threats or threats == len(bags.bags):
        lacking, fix = ("a clean bag", "clean bags") if threats else ("a bag with a threat", "bags with a threat")
        raise UserError(f"{inputs.dataset} has not {lacking}: there is nothing to weigh", f"add {fix} to it")
    chosen, common = choose_thresholds(bags, false_alarms), common_threshold(bags, false_alarms)
    return Choice(
        thresholds=dict(zip(names, chosen.tolist(), strict=True)),
        false_alarms=false_alarms,
        confidence=confidence,
        judgement=judge(bags, chosen, confidence),
        across=judge_across(bags, false_alarms, confidence, seed=seed),
        common=common,
        common_judgement=judge(bags, np.full(len(names), common), confidence),
        unseen=tuple(name for name, there in zip(names, np.any(bags.shows, axis=0), strict=True) if not there),
        chosen_on={
            "dataset": inputs.dataset,
            "origin": inputs.origin,
            "evaluation": inputs.evaluation,
            "fingerprint": truth_fingerprint(inputs.ground_truth),
            "image_sample": image_sample(inputs.ground_truth),
            "images": len(inputs.ground_truth["images"]),
            "bags": len(bags.bags),
            "threats": threats,
            "clean": len(bags.bags) - threats,
            "rule": str(rule),
            "group_by": group_by or "",
            "max_detections": inputs.max_detections,
        },
        view_fusion=view_fusion,
        notes=inputs.notes,
    )


def write_operating_point(choice: Choice, folder: str | os.PathLike) -> Path:
    """Write operating_point.json; gives its path."""
    path = Path(folder) / FILE_NAME
    write_json(path, choice.as_json(), indent=1)
    return path
