"""An operating point from its file, applied to detections: thresholds of classes that keep a rate of false alarms."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import BagScores
from xray_lazy.evaluation.screening.threshold_choice import Judgement, judge
from xray_lazy.run_folder import number_or_none
from xray_lazy.utils.json_files import read_json

if TYPE_CHECKING:
    from xray_lazy.analysis.inputs import Inputs

SCHEMA = 1  # of operating_point.json
SAMPLE_SIZE = 500  # images that are known again
FILE_NAME = "operating_point.json"
_CHOOSE = "tools/analyze.py operating-point RUN makes such a file"


@dataclass(frozen=True)
class OperatingPoint:
    """What of a file is applied.

    Attributes:
        path: of the file.
        thresholds: by class name; infinite for a class that never alarms.
        false_alarms: P_FA in 0..1 that was asked for.
        chosen_on: fingerprint of that ground truth, and what else the file tells of it.
        view_fusion: weights for the views of bags, whose scores the thresholds are for; see
            `xray_lazy.evaluation.screening.view_fusion`. None where they are for scores as they are.
    """

    path: str
    thresholds: Mapping[str, float]
    false_alarms: float
    chosen_on: Mapping[str, Any]
    view_fusion: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike) -> "OperatingPoint":
        """From a file.

        Raises:
            UserError: it is not there, or is another file.
        """
        content = read_json(path, f"there is no operating point {path}", _CHOOSE)
        schema = content.get("schema") if isinstance(content, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise UserError(
                f"{path} is of a newer version: its schema is {schema}, and this one reads up to {SCHEMA}",
                "choose the thresholds anew, or use the newer version",
            )
        fault = _fault_of(content) if schema == SCHEMA else "it has no thresholds by class"
        if fault:
            raise UserError(f"{path} holds no operating point: {fault}", _CHOOSE)
        thresholds = {name: math.inf if one is None else float(one) for name, one in content["thresholds"].items()}
        return cls(
            str(path), thresholds, float(content["false_alarms"]), content["chosen_on"], content.get("view_fusion")
        )

    def check_scores(self, lowest: float = 0.0, highest: float = 1.0) -> None:
        """Refuse thresholds that scores between these can't be compared with, as percentages.

        Scores beyond 0 and 1 are of another scale: any threshold may be meant.

        Raises:
            UserError: a class would never alarm by its threshold, or always.
        """
        if lowest < 0 or highest > 1:
            return
        strange = {name: one for name, one in self.thresholds.items() if math.isfinite(one) and not 0 <= one <= 1}
        if strange:
            name, threshold = next(iter(strange.items()))
            effect = "never alarms" if threshold > 1 else "always alarms"
            listed = ", ".join(f"{one} has {value:g}" for one, value in strange.items())
            raise UserError(
                f"{self.path} has thresholds that are no scores: {listed}; scores are in 0..1, so {name} {effect}",
                f"write {threshold / 100:g} for {threshold:g} %, or null for a class that never alarms"
                if 1 < threshold <= 100
                else "write a score from 0 to 1, or null for a class that never alarms",
            )

    def of_classes(self, names: Sequence[str], whose: str) -> list[float]:
        """Thresholds in the order of class names.

        Raises:
            UserError: the file has not just these classes.
        """
        strange = [name for name in self.thresholds if name not in names]
        lacking = [name for name in names if name not in self.thresholds]
        if not strange and not lacking:
            return [self.thresholds[name] for name in names]
        parts = [f"no threshold for {', '.join(lacking)}"] if lacking else []
        parts += [f"thresholds for {', '.join(strange)}, which {whose} does not have"] if strange else []
        near = did_you_mean(nearest(strange[0], lacking)) if strange and lacking else ""
        raise UserError(
            f"{self.path} does not fit the classes of {whose}: it has {' and '.join(parts)}",
            f"{near} choose an operating point for this model".strip(),
        )


@dataclass(frozen=True)
class AtPoint:
    """What an operating point gives on a set.

    Attributes:
        path: of its file.
        thresholds: by class name, infinite for a class that never alarms.
        false_alarms: P_FA in 0..1 that was asked for.
        chosen_on: name of the set.
        notes: why the figures may not be what they seem.
    """

    path: str
    thresholds: dict[str, float]
    false_alarms: float
    chosen_on: str
    judgement: Judgement
    notes: tuple[str, ...]


def judge_at(
    point: OperatingPoint, bags: BagScores, inputs: "Inputs", rule: str, group_by: str, confidence: float
) -> AtPoint:
    """Of the bags of an evaluation that `rule` and `group_by` made.

    Raises:
        UserError: the point is of other classes, or of scores on another scale.
    """
    names = inputs.matches("bbox").class_names
    scores = bags.alarm[np.isfinite(bags.alarm)]
    point.check_scores(scores.min(initial=0), scores.max(initial=1))
    thresholds = point.of_classes(names, inputs.dataset)
    notes = notes_of_shared_images(point.chosen_on, inputs.ground_truth, "it was chosen")
    for what, key, now in (
        ("a detection counts", "rule", rule),
        ("bags are joined", "group_by", group_by),
        ("detections are limited", "max_detections", inputs.max_detections),
    ):
        before = point.chosen_on.get(key, now)  # a file that was made elsewhere need not tell
        if before != now:
            there, here = (value or "not at all" for value in (before, now))
            notes.append(f"{what} in another way than where it was chosen: {there} there, {here} here")
    return AtPoint(
        point.path,
        dict(zip(names, thresholds, strict=True)),
        point.false_alarms,
        str(point.chosen_on.get("dataset")),
        judge(bags, thresholds, confidence),
        tuple(notes),
    )


def truth_fingerprint(ground_truth: Mapping[str, Any]) -> str:
    """SHA-256 of images, by their names without folders, classes, and boxes; equal wherever the set lies."""
    classes = sorted(one["name"] for one in ground_truth["categories"])
    return _digest([classes, sorted(map(list, _contents(ground_truth)))])


def image_sample(ground_truth: Mapping[str, Any]) -> list[str]:
    """Digests of images with items, at most `SAMPLE_SIZE`: the lowest, so that sets that share images share these."""
    return sorted(_digest(one)[:16] for one in _contents(ground_truth) if one[1])[:SAMPLE_SIZE]


def notes_of_shared_images(origin: Mapping[str, Any], ground_truth: Mapping[str, Any], made: str) -> list[str]:
    """A note where something is judged on what it comes from.

    Args:
        origin: `truth_fingerprint` and `image_sample` of the set that it comes from, as its file has them.
        made: what was done on that set, as "it was chosen".
    """
    worse = "other bags have a higher P_FA and a lower P_D"
    if origin.get("fingerprint") == truth_fingerprint(ground_truth):
        return [f"{made} on this very set: {worse}"]
    sample = origin.get("image_sample") or []
    here = {_digest(one)[:16] for one in _contents(ground_truth) if one[1]}
    shared = sum(one in here for one in sample)
    if not shared:
        return []
    return [f"{shared} of {len(sample)} images that {made} on, looked up by name and items, are here, too: {worse}"]


def _contents(ground_truth: Mapping[str, Any]) -> list[tuple[str, list]]:
    """Of each image its name without folders, and classes and boxes of its items."""
    classes = {one["id"]: one["name"] for one in ground_truth["categories"]}
    items: dict[Any, list] = {one["id"]: [] for one in ground_truth["images"]}
    for one in ground_truth["annotations"]:
        items[one["image_id"]].append([classes[one["category_id"]], *one["bbox"]])
    names = {one["id"]: PurePath(one["file_name"]).name for one in ground_truth["images"]}
    return [(names[image_id], sorted(own)) for image_id, own in items.items()]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _fault_of(content: Mapping[str, Any]) -> str:
    """What is wrong with a file of this schema; empty if nothing is."""
    thresholds, rate, chosen_on = (content.get(key) for key in ("thresholds", "false_alarms", "chosen_on"))
    if not isinstance(thresholds, dict) or not all(
        one is None or number_or_none(one) is not None for one in thresholds.values()
    ):
        return "it has no thresholds by class"
    share = number_or_none(rate)
    if share is None or not 0 < share < 1:
        return "its false_alarms is not a share between 0 and 1"
    if not isinstance(chosen_on, dict):
        return "it does not tell what it was chosen on"
    if not isinstance(content.get("view_fusion") or {}, dict):
        return "its view_fusion is no object"
    sample = chosen_on.get("image_sample") or []
    if not isinstance(sample, list) or not all(isinstance(one, str) for one in sample):
        return "its chosen_on.image_sample is not a list of texts"
    return ""
