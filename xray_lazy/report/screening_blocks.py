"""Detection against false alarms per bag: curves, a threshold to move, missed and false bags, classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np

from xray_lazy.analysis.screening.fused_views import with_fused_views
from xray_lazy.analysis.screening.screening import ScreeningResult, bag_keys, froc_steps, screen_with_bags
from xray_lazy.analysis.screening.screening_files import warnings_of
from xray_lazy.analysis.screening.screening_text import shown_threshold
from xray_lazy.config.keys import describes_call
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import BagScores
from xray_lazy.evaluation.screening.curve import Curve, corner_places, spread
from xray_lazy.evaluation.screening.in_training import BagScreening
from xray_lazy.evaluation.screening.view_fusion import read_fusion
from xray_lazy.report.across_sets import across_sets_blocks
from xray_lazy.report.blocks import (
    MOST_POINTS,
    Bag,
    Block,
    Cell,
    Chart,
    Charts,
    Note,
    Series,
    Table,
    ThresholdChoice,
)
from xray_lazy.report.image_blocks import thumbnails
from xray_lazy.report.readable_numbers import DASH, NOTHING, numeric, text, whole
from xray_lazy.report.review import Review, Reviews
from xray_lazy.report.run_files import RunFiles

FIRST_RATE = 0.05  # P_FA at which the slider stands
LOW_RATES = 20.0  # percent; where a checkpoint works
MOST_NAMED, MOST_THUMBNAILS = 1000, 12  # of the missed and of the false bags


@dataclass(frozen=True)
class Screened:
    """A run's bags and their figures; `lacking` is why its weights for views are not used, where they aren't."""

    run: RunFiles
    review: Review
    bags: BagScores
    result: ScreeningResult
    curve: Curve
    lacking: str = ""


def screening_blocks(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    """Nothing where no run has an evaluation whose bags can be judged, or several test sets."""
    found = [_screened(run, reviews) for run in runs]
    screened = [one for one in found if one is not None]
    across = across_sets_blocks(runs)
    if not screened:
        return across
    first = screened[0]
    group_by = first.result.group_by
    bag = "an image" if first.result.bags == first.result.images else "all images that name the same one"
    bag = f"all images whose file names have the same part by {group_by}" if group_by else bag
    about = (
        f"A bag is {bag}; it is detected by a detection of the right class with an {first.result.rule}, and a clean "
        f"one alarms by any. Intervals are at {first.result.confidence:.0%}."
    )
    blocks: list[Block] = [Note(about)]
    notes = [(one, note) for one in screened for note in (one.lacking, *warnings_of(one.result)) if note]
    blocks += [Note(_of(one, screened) + note, warning=True) for one, note in notes]
    judged = [one for one in screened if one.curve.clean and one.curve.threats]
    blocks += [_charts(judged, screened), *_rates(judged)]
    if len(judged) == 1 == len(screened):
        blocks.append(_choice(judged[0]))
    return [*blocks, *(_classes(one, screened) for one in screened), *across]


def _screened(run: RunFiles, reviews: Reviews) -> Screened | None:
    try:
        review = reviews[run]
    except UserError:  # the tabs of errors and images say why
        return None
    if not review.ground_truth["annotations"]:
        return None
    screening = _screening_of(run)
    inputs, weights, lacking = review.inputs, screening.view_fusion, ""
    if weights:
        try:
            inputs = with_fused_views(inputs, read_fusion(weights), weights, screening.group_by)
        except UserError as error:  # the file has gone or is another since
            lacking = f"bags alarm by the best of their views here: {error.message}"
    result, bags = screen_with_bags(inputs, screening.rule, screening.group_by)
    return Screened(run, review, bags, result, Curve.of(*bags.of_all), lacking) if bags.is_threat.any() else None


def _screening_of(run: RunFiles) -> BagScreening:
    """What a bag is, how its views count and when a detection does, as the run's own evaluations have it."""
    from detectron2.config import instantiate
    from omegaconf import OmegaConf

    node = None if run.config is None else OmegaConf.select(run.config, "dataloader.evaluator.screening")
    screening = instantiate(node) if describes_call(node) else None
    return screening if isinstance(screening, BagScreening) else BagScreening()


def _of(one: Screened, screened: Sequence[Screened]) -> str:
    return f"{one.run.name}: " if len(screened) > 1 else ""


def _charts(judged: Sequence[Screened], screened: Sequence[Screened]) -> Block:
    charts = []
    if judged:
        curves = [(one.run.name if len(screened) > 1 else "P_D", _staircase(one.curve)) for one in judged]
        about = "The share of bags with a threat that is detected, over the share of clean bags that alarm."
        axes = ("P_FA, % of clean bags", "P_D, % of bags with a threat")
        whole_series = [Series(name, *steps) for name, steps in curves]
        low_series = [Series(name, *_up_to(*steps, LOW_RATES)) for name, steps in curves]
        low_title = f"ROC up to {LOW_RATES:g} %"
        charts = [
            Chart("ROC", whole_series, *axes, about, (0, 100), (0, 100)),
            Chart(low_title, low_series, *axes, "", (0, LOW_RATES), (0, 100)),
        ]
    items = []
    for one in screened:
        marks, shares = froc_steps(one.review.inputs)
        if len(marks):
            places = spread(len(marks), MOST_POINTS)
            items.append(
                Series(
                    one.run.name if len(screened) > 1 else "items found",
                    marks[places].tolist(),
                    (100 * shares[places]).tolist(),
                )
            )
    if items:
        about = "Items that are found at IoU 0.5, over false marks per image."
        charts.append(Chart("FROC", items, "false marks per image", "items found, %", about, y_range=(0, 100)))
    return Charts(charts, "Detection against false alarms")


def _staircase(curve: Curve) -> tuple[list[float], list[float]]:
    """In percent: nothing lies between two thresholds."""
    corners = corner_places(curve.false_alarms, MOST_POINTS // 2 - 1)
    rates, values = 100 * curve.false_alarms[corners], 100 * curve.detections[corners]
    x, y = np.repeat(np.append(rates, 100.0), 2)[1:], np.repeat(np.append(values, values[-1]), 2)[:-1]
    return x.tolist(), y.tolist()


def _up_to(x: Sequence[float], y: Sequence[float], most: float) -> tuple[list[float], list[float]]:
    inside = sum(value <= most for value in x)
    return [*x[:inside], most], [*y[:inside], y[inside - 1]]


def _rates(judged: Sequence[Screened]) -> list[Block]:
    if not judged:
        return []
    columns = ["P_FA at most, %", "threshold", "P_FA, %", "P_D, %", "any class, %", "alarms, %"]
    rows = []
    for one in judged:
        for point, any_class in zip(one.result.overall.points, one.result.any_class.points, strict=True):
            cells = [
                numeric(100 * point.asked, 0),
                Cell(shown_threshold(point.threshold)),
                _with_interval(point.false_alarms, point.false_alarms_low, point.false_alarms_high),
                _with_interval(point.detection, point.detection_low, point.detection_high),
                numeric(100 * any_class.detection),
                numeric(100 * point.alarms),
            ]
            rows.append([text(one.run.name), *cells] if len(judged) > 1 else cells)
    about = (
        "With the threshold chosen on these very bags. Any class: an item that is marked as another counts, too. "
        "Alarms: bags with a threat that alarm at all, also beside it."
    )
    return [Table("P_D at P_FA", ["run", *columns] if len(judged) > 1 else columns, rows, about)]


def _classes(one: Screened, screened: Sequence[Screened]) -> Block:
    rates = [f"P_D at {100 * point.asked:g} %" for point in one.result.overall.points]
    rows = [
        [
            text(found.name),
            whole(found.threats),
            whole(found.clean),
            *(_with_interval(point.detection, point.detection_low, point.detection_high) for point in found.points),
            _with_interval(found.area, found.area_low, found.area_high),
            numeric(100 * found.ap),
        ]
        for found in one.result.classes
    ]
    columns = ["class", "bags with it", "without", *rates, "area, %", "AP of bags, %"]
    about = "P_FA is of the bags without an item of the class, whatever else is in them."
    return Table(f"{_of(one, screened)}By class", columns, rows, about, sortable=True, filterable=len(rows) > 15)


def _with_interval(value: float, low: float, high: float) -> Cell:
    if math.isnan(value):
        return Cell(NOTHING, tone="quiet")
    return Cell(f"{100 * value:.1f} ({100 * low:.0f}{DASH}{100 * high:.0f})", 100 * value)


def _choice(one: Screened) -> Block:
    is_threat, alarm, hit = one.bags.of_all
    curve = one.curve
    # all that changes something, thinned where there is much of it, with the place of the rate that is shown first
    changes = np.flatnonzero(np.diff(curve.false_alarms, append=np.inf) + np.diff(curve.detections, append=np.inf))
    first = curve.place_at(FIRST_RATE)
    places = np.unique([*changes[spread(len(changes), MOST_POINTS)], first])
    missed = _bags(one, is_threat, hit, "annotated")
    false = _bags(one, ~is_threat & np.isfinite(alarm), -alarm, "detected")
    return ThresholdChoice(
        title="Choose a threshold",
        text="One for all classes. The missed bags with the lowest scores and the false ones with the highest come "
        f"first; at most {MOST_NAMED:,} of each are named.",
        thresholds=[shown_threshold(value) for value in curve.thresholds[places]],
        false_counts=np.rint(curve.false_alarms[places] * curve.clean).astype(int).tolist(),
        detected_counts=np.rint(curve.detections[places] * curve.threats).astype(int).tolist(),
        clean=curve.clean,
        threats=curve.threats,
        start=int(np.searchsorted(places, first)),
        missed=missed,
        false=false,
    )


def _bags(one: Screened, chosen: np.ndarray, order: np.ndarray, what: Literal["annotated", "detected"]) -> list[Bag]:
    """Those of a kind, the lowest `order` first; the first ones with an image."""
    places = np.flatnonzero(chosen)
    places = places[np.argsort(order[chosen], kind="stable")][:MOST_NAMED]
    keys = [one.bags.bags[place] for place in places]
    scores = [abs(float(order[place])) for place in places]
    first = [score for score in scores[:MOST_THUMBNAILS] if math.isfinite(score)]
    lowest = min(first, default=math.inf) if what == "detected" else 0.0
    names, shown = _names_and_images(one, keys, what)
    shots = thumbnails(one.review, [shown[key] for key in keys[:MOST_THUMBNAILS]], lowest, what)
    return [
        Bag(names[key], score if math.isfinite(score) else None, shots.get(shown[key]) if key in shown else None)
        for key, score in zip(keys, scores, strict=True)
    ]


def _names_and_images(
    one: Screened, keys: Sequence[Any], what: Literal["annotated", "detected"]
) -> tuple[dict[Any, str], dict[Any, int | str]]:
    """By bag its name, and of the first ones the image with most items, or with the detection of the highest score."""
    truth, group_by = one.review.ground_truth, one.result.group_by
    bags = dict(zip((image["id"] for image in truth["images"]), bag_keys(truth, group_by), strict=True))
    files = {image["id"]: PurePath(image["file_name"]).name for image in truth["images"]}
    drawn, weight = set(keys[:MOST_THUMBNAILS]), dict.fromkeys(bags, 0.0)
    if what == "annotated":
        for annotation in truth["annotations"]:
            weight[annotation["image_id"]] += not annotation["iscrowd"]
    else:
        for detection in one.review.inputs.detections:
            weight[detection["image_id"]] = max(weight[detection["image_id"]], detection["score"])
    ordered = sorted((image for image in bags if bags[image] in drawn), key=weight.__getitem__)
    return {key: files.get(key, str(key)) for key in keys}, {bags[image]: image for image in ordered}
