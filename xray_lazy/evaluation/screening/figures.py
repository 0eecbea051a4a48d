"""The figures of a screening test, each with the interval that its number of bags supports."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from xray_lazy.evaluation.resampling import ends_of_ties, interval
from xray_lazy.evaluation.screening.bags import BagScores
from xray_lazy.evaluation.screening.curve import Curve, draw_figures

FALSE_ALARM_RATES = (0.01, 0.02, 0.05, 0.10)
DETECTION_RATES = (0.90, 0.95)
LEAST_THREATS = 30  # for a verdict: a bootstrap of fewer bags claims more than it knows


@dataclass(frozen=True)
class Point:
    """P_D where P_FA is at most what was asked for; rates are in 0..1, NaN where there are no such bags.

    Attributes:
        asked: the most P_FA.
        threshold: the lowest score threshold that keeps it; infinite where only silence does.
        false_alarms: P_FA at it, with the bounds of its exact binomial interval (Clopper and Pearson 1934).
        detection: P_D at it, with the bounds of its bootstrap interval, over which the threshold varies, too; at least
            as wide as the exact binomial one, since a bootstrap of bags that are all alike has no width.
        alarms: share of bags with a threat that alarm at it, also by a detection beside the threat.
    """

    asked: float
    threshold: float
    false_alarms: float
    false_alarms_low: float
    false_alarms_high: float
    detection: float
    detection_low: float
    detection_high: float
    alarms: float


@dataclass(frozen=True)
class Screening:
    """The figures of one class, or of all together.

    Attributes:
        name: of the class; `all` for any threat in the bag.
        threats, clean: numbers of bags with such an item, and without one.
        points: at each P_FA that was asked for.
        false_alarms_at: P_FA in 0..1 by the P_D that was asked for; NaN where no threshold reaches it.
        false_alarms_at_bounds: of its bootstrap interval, likewise; a draw that reaches it at no threshold counts as 1.
        area: of P_D over P_FA, with the bounds of its bootstrap interval.
        low_area: the same up to the highest P_FA asked for, as a share of what it could be.
        ap: average precision in 0..1 of telling the bags with such an item from the others, whatever is marked in
            them: SIXray's and DvXray's image-level AP where a bag is an image.
    """

    name: str
    threats: int
    clean: int
    points: tuple[Point, ...]
    false_alarms_at: dict[float, float]
    false_alarms_at_bounds: dict[float, tuple[float, float]]
    area: float
    area_low: float
    area_high: float
    low_area: float
    ap: float


def screen(
    name: str,
    is_threat: np.ndarray,
    alarm: np.ndarray,
    hit: np.ndarray,
    rates: Sequence[float] = FALSE_ALARM_RATES,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Screening:
    """Figures of B bags.

    Args:
        is_threat, alarm, hit: (B,), as `Curve.of`.
        rates: P_FA in 0..1.
        resamples, seed: of the bootstrap; equal ones draw equal bags, so that two models are compared in pairs.
        confidence: of all intervals.
    """
    curve = Curve.of(is_threat, alarm, hit)
    drawn = draw_figures(is_threat, alarm, hit, rates, DETECTION_RATES, resamples, seed)
    points = tuple(_point(curve, *one, confidence) for one in zip(rates, drawn.detections.T, strict=True))
    false_alarms_at = {rate: curve.false_alarms_at(rate) for rate in DETECTION_RATES}
    bounds = [interval(column, confidence) for column in drawn.false_alarms.T]
    area_low, area_high = interval(drawn.area, confidence)
    return Screening(
        name=name,
        threats=curve.threats,
        clean=curve.clean,
        points=points,
        false_alarms_at=false_alarms_at,
        false_alarms_at_bounds={
            rate: (math.nan, math.nan) if math.isnan(false_alarms_at[rate]) else bound
            for rate, bound in zip(DETECTION_RATES, bounds, strict=True)
        },
        area=curve.area(),
        area_low=area_low,
        area_high=area_high,
        low_area=curve.area(max(rates)),
        ap=ranking_precision(is_threat, alarm),
    )


def screen_all(bags: BagScores, **options) -> Screening:
    """Of any threat: a bag is detected by an item that is marked as what it is. For `options` see `screen`."""
    return screen("all", *bags.of_all, **options)


def screen_any_class(bags: BagScores, **options) -> Screening:
    """Likewise, where an item counts as detected under any class."""
    is_threat, alarm, _ = bags.of_all
    return screen("all, any class", is_threat, alarm, bags.hit_of_any, **options)


def screen_classes(bags: BagScores, class_names: Sequence[str], **options) -> list[Screening]:
    """Of each class: bags without it are clean, whatever else is in them."""
    return [
        screen(name, bags.shows[:, k], bags.alarm[:, k], bags.hit[:, k], **options)
        for k, name in enumerate(class_names)
    ]


def detection_changes(
    first: BagScores,
    second: BagScores,
    rates: Sequence[float] = FALSE_ALARM_RATES,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[tuple[float, float, float]]:
    """How P_D of any threat changes from the first model to the second at each P_FA, with the bounds of a paired
    bootstrap over bags (Efron and Tibshirani 1993, chapter 13).

    Raises:
        ValueError: they are not of the same bags.
    """
    if first.bags != second.bags or not np.array_equal(first.shows, second.shows):
        raise ValueError("the two models are not of the same bags")
    before, after = (Curve.of(*one.of_all) for one in (first, second))
    drawn_before, drawn_after = (
        draw_figures(*one.of_all, rates, resamples=resamples, seed=seed).detections for one in (first, second)
    )
    return [
        (after.detection_at(rate) - before.detection_at(rate), *interval(drawn, confidence))
        for rate, drawn in zip(rates, (drawn_after - drawn_before).T, strict=True)
    ]


def ranking_precision(is_threat: np.ndarray, scores: np.ndarray) -> float:
    """Average precision in 0..1 of bags in the order of their scores, equal scores taken together; NaN without threats.

    The precision at each recall that is reached, without interpolation, as scikit-learn's `average_precision_score`.
    """
    threats = int(is_threat.sum())
    if not threats:
        return np.nan
    order = np.argsort(-scores, kind="stable")
    found, ordered = np.cumsum(is_threat[order]), scores[order]
    ends = ends_of_ties(ordered)
    found, seen = found[ends], ends + 1
    return float(np.sum(np.diff(found, prepend=0) / threats * found / seen))


def _point(curve: Curve, rate: float, drawn: np.ndarray, confidence: float) -> Point:
    if not (curve.clean and curve.threats):
        return Point(rate, *[np.nan] * 8)
    place = curve.place_at(rate)
    false = curve.false_alarms[place]
    false_low, false_high = exact_interval(false, curve.clean, confidence)
    low, high = exact_interval(curve.detections[place], curve.threats, confidence)
    drawn_low, drawn_high = interval(drawn, confidence)
    return Point(
        asked=rate,
        threshold=float(curve.thresholds[place]),
        false_alarms=float(false),
        false_alarms_low=false_low,
        false_alarms_high=false_high,
        detection=float(curve.detections[place]),
        detection_low=min(low, drawn_low),
        detection_high=max(high, drawn_high),
        alarms=float(curve.alarms[place]),
    )


def exact_interval(share: float, bags: int, confidence: float) -> tuple[float, float]:
    """The bounds of Clopper and Pearson (1934)."""
    bounds = binomtest(round(share * bags), bags).proportion_ci(confidence, method="exact")
    return float(bounds.low), float(bounds.high)


def clean_bags_for(false_alarms: float, confidence: float) -> int:
    """How many clean bags without one false alarm show that P_FA is at most so much.

    At 95 % about 3 / P_FA: the rule of three (Hanley and Lippman-Hand 1983).
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - false_alarms))


def least_false_alarms(clean: int, confidence: float) -> float:
    """The least P_FA that this number of clean bags can show."""
    return 1 - (1 - confidence) ** (1 / clean)
