"""What a screening point asks of a model, from its detections: P_D at P_FA, per bag, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from xray_lazy.analysis.inputs import APART, Inputs, same_truth
from xray_lazy.analysis.results import plain
from xray_lazy.analysis.screening.missed import MissedItems, missed_items
from xray_lazy.analysis.screening.operating_point import AtPoint, OperatingPoint, judge_at
from xray_lazy.data.bag_names import bag_of_each
from xray_lazy.data.datasets import LEFT_OUT
from xray_lazy.errors import UserError
from xray_lazy.evaluation.resampling import verdict
from xray_lazy.evaluation.screening.bags import BagScores, BoxesOfImage, HitRule, score_bags
from xray_lazy.evaluation.screening.curve import Curve, corner_places
from xray_lazy.evaluation.screening.figures import (
    FALSE_ALARM_RATES,
    LEAST_THREATS,
    Screening,
    detection_changes,
    screen_all,
    screen_any_class,
    screen_classes,
)
from xray_lazy.evaluation.screening.marks import Marks
from xray_lazy.utils.wording import counted

SCHEMA = 1  # of screening.json
FALSE_MARKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # per image, at which LUNA16 reads the curve
ROC_POINTS = 500


@dataclass(frozen=True)
class Change:
    """How P_D of any threat changes to another model on the same bags at a P_FA, with its bootstrap interval.

    Attributes:
        verdict: on the other model, as `xray_lazy.evaluation.resampling.verdict`, or "too few threats" for one.
    """

    asked: float
    change: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class ScreeningResult:
    """Of one evaluation.

    Attributes:
        rule: in words, when a detection shows an item.
        images, bags: how many there are.
        overall: of any threat, marked as what it is; `any_class`: marked as anything; `classes`: of each.
        class_ap: the mean of the classes' image-level AP in 0..1.
        froc: see `froc`.
        roc: (P_FA, P_D, threshold) of `overall`, at most `ROC_POINTS`.
        missed: shares of items that are missed at the thresholds of `overall.points`, then at those of `at_point`;
            empty without any of these.
        other, changes: a second evaluation and what it changes; empty without one.
        at_point: at an operating point that was chosen elsewhere; None without one.
        notes: why the figures may not be what they seem.
    """

    dataset: str
    origin: str
    rule: str
    images: int
    bags: int
    max_detections: int
    group_by: str
    resamples: int
    confidence: float
    seed: int
    overall: Screening
    any_class: Screening
    classes: tuple[Screening, ...]
    class_ap: float
    froc: dict[float, float]
    roc: tuple[tuple[float, float, float], ...]
    missed: tuple[MissedItems, ...] = ()
    other: str = ""
    changes: tuple[Change, ...] = ()
    at_point: AtPoint | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON has it; infinite thresholds and what could not be measured become null."""
        return plain({"schema": SCHEMA, **asdict(self)})


def screen_inputs(
    inputs: Inputs,
    other: Inputs | None = None,
    rule: HitRule | None = None,
    group_by: str | None = None,
    rates: Sequence[float] = FALSE_ALARM_RATES,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    point: OperatingPoint | None = None,
) -> ScreeningResult:
    """Screen with the detections of an evaluation, and say what another one on the same bags changes.

    Args:
        rule: when a detection shows an item; by default at IoU 0.5 of their boxes.
        group_by: a regular expression in file names; images for which its first group is equal are one bag. Without
            it those are that name the same one.
        rates: the P_FA to look at.
        resamples, confidence, seed: of the intervals.
        point: to judge on these bags.

    Raises:
        UserError: the two are not on the same ground truth, detections have no boxes, `group_by` does not fit, or the
            point is of other classes.
    """
    options: dict[str, Any] = {"rates": tuple(rates), "resamples": resamples, "confidence": confidence, "seed": seed}
    result, bags = screen_with_bags(inputs, rule, group_by, point=point, **options)
    if other is None:
        return result
    other = same_truth(inputs, other)
    changes = detection_changes(bags, bags_of(other, rule or HitRule(), group_by), **options)
    has_enough = result.overall.threats >= LEAST_THREATS
    return replace(
        result,
        other=other.origin,
        changes=tuple(
            Change(rate, change, low, high, verdict(low, high) if has_enough else "too few threats")
            for rate, (change, low, high) in zip(options["rates"], changes, strict=True)
        ),
    )


def screen_with_bags(
    inputs: Inputs,
    rule: HitRule | None = None,
    group_by: str | None = None,
    rates: Sequence[float] = FALSE_ALARM_RATES,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    point: OperatingPoint | None = None,
) -> tuple[ScreeningResult, BagScores]:
    """As `screen_inputs`, of one evaluation, with its bags."""
    rule = rule or HitRule()
    options: dict[str, Any] = {"rates": tuple(rates), "resamples": resamples, "confidence": confidence, "seed": seed}
    images = images_of(inputs, group_by)
    bags = score_bags(images, len(inputs.ground_truth["categories"]), rule)
    classes = tuple(screen_classes(bags, inputs.matches("bbox").class_names, **options))
    overall = screen_all(bags, **options)
    at_point = judge_at(point, bags, inputs, str(rule), group_by or "", confidence) if point else None
    thresholds: list = [one.threshold for one in overall.points if not np.isnan(one.threshold)]
    if at_point:
        thresholds.append(list(at_point.thresholds.values()))
    result = ScreeningResult(
        dataset=inputs.dataset,
        origin=inputs.origin,
        rule=str(rule),
        images=len(inputs.ground_truth["images"]),
        bags=len(bags.bags),
        max_detections=inputs.max_detections,
        group_by=group_by or "",
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        overall=overall,
        any_class=screen_any_class(bags, **options),
        classes=classes,
        class_ap=float(np.nanmean([one.ap for one in classes])) if any(one.threats for one in classes) else np.nan,
        froc=froc(inputs),
        roc=_roc(bags),
        missed=missed_items(inputs, images, rule, thresholds, confidence) if thresholds else (),
        at_point=at_point,
        notes=inputs.notes,
    )
    return result, bags


def bags_of(inputs: Inputs, rule: HitRule, group_by: str | None = None) -> BagScores:
    """The bags of an evaluation; see `screen_inputs`."""
    return score_bags(images_of(inputs, group_by), len(inputs.ground_truth["categories"]), rule)


def images_of(inputs: Inputs, group_by: str | None = None, counted: bool = True) -> list[BoxesOfImage]:
    """The images of an evaluation, in the order of its ground truth; see `screen_inputs`.

    Args:
        counted: without what is beyond `max_detections`.
    """
    truth = inputs.ground_truth
    if not all(detection.get("bbox") for detection in inputs.detections):
        raise UserError(f"{inputs.origin} has detections without a box", "give COCO results with bbox")
    _refuse_unknown_content(inputs)
    return list(_images(inputs, bag_keys(truth, group_by), counted))


def bag_keys(truth: Mapping[str, Any], group_by: str | None) -> list:
    """The bag of each image: the one that it names, else itself, or what of its file name `group_by` takes. Images of
    sets that were evaluated apart are never one bag."""
    images = truth["images"]
    keys = bag_of_each(images, "id", group_by)
    joined = ((one, key) for one, key in zip(images, keys, strict=True))
    return [f"{one[APART]}/{key}" if APART in one and key != one["id"] else key for one, key in joined]


def _refuse_unknown_content(inputs: Inputs) -> None:
    """An image all of whose annotations were left out is not clean, nor is it known what it holds."""
    annotated = {annotation["image_id"] for annotation in inputs.ground_truth["annotations"]}
    images = inputs.ground_truth["images"]
    unknown = [image for image in images if image.get(LEFT_OUT) and image["id"] not in annotated]
    if unknown:
        raise UserError(
            f"{counted(len(unknown), 'image')} of {inputs.dataset} would count as clean, because none of the "
            f"annotations there can be used, e.g. {unknown[0]['file_name']}",
            "`tools/dataset.py check` tells what is wrong with them; mend them, or take these images out of the set",
        )


def froc(inputs: Inputs) -> dict[float, float]:
    """Share of items found at each rate of false marks per image (Bunch et al. 1978), by COCO's matching at IoU 0.5.

    Where a model has fewer false marks than that, all that it finds; NaN without items.
    """
    marks, found = froc_steps(inputs)
    if not len(marks):
        return dict.fromkeys(FALSE_MARKS, np.nan)
    # by whole marks: a quotient may lie a little beside what was asked for
    places = [int(np.searchsorted(marks, most * (1 + 1e-12), side="right")) - 1 for most in FALSE_MARKS]
    return {most: float(found[place]) for most, place in zip(FALSE_MARKS, places, strict=True)}


def froc_steps(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """False marks per image, and the share of items found (T,), from no detection at all to all of them; empty
    without items."""
    matches = inputs.matches("bbox")
    images, items = len(matches.image_ids), int((~matches.crowd).sum())
    if not items:
        return np.zeros(0), np.zeros(0)
    right, judged = matches.right[0], matches.right[0] | matches.wrong[0]
    return Marks(matches.scores[judged], right[judged], images, items).curve()


def _images(inputs: Inputs, keys: Sequence, counted: bool) -> Iterator[BoxesOfImage]:
    number = {one: k for k, one in enumerate(sorted(c["id"] for c in inputs.ground_truth["categories"]))}
    items: dict[Any, list] = {image["id"]: [] for image in inputs.ground_truth["images"]}
    found: dict[Any, list] = {image_id: [] for image_id in items}
    for annotation in inputs.ground_truth["annotations"]:
        items[annotation["image_id"]].append(annotation)
    chosen = inputs.matches("bbox").counted if counted else [True] * len(inputs.detections)
    for detection, is_chosen in zip(inputs.detections, chosen, strict=True):
        if is_chosen:
            found[detection["image_id"]].append(detection)
    for key, image in zip(keys, inputs.ground_truth["images"], strict=True):
        there, seen = items[image["id"]], found[image["id"]]
        yield BoxesOfImage(
            key,
            np.array([one["bbox"] for one in there], float).reshape(-1, 4),
            np.array([number[one["category_id"]] for one in there], int),
            np.array([one["iscrowd"] for one in there], bool),
            np.array([one["bbox"] for one in seen], float).reshape(-1, 4),
            np.array([number[one["category_id"]] for one in seen], int),
            np.array([one["score"] for one in seen], float),
            (image["width"], image["height"]),
        )


def _roc(bags: BagScores) -> tuple[tuple[float, float, float], ...]:
    curve = Curve.of(*bags.of_all)
    if not (curve.clean and curve.threats):
        return ()
    chosen = corner_places(curve.false_alarms, ROC_POINTS)
    columns = (curve.false_alarms, curve.detections, curve.thresholds)
    return tuple(tuple(float(column[place]) for column in columns) for place in chosen)  # type: ignore[misc]
