"""A threshold for each class, chosen together so that few clean bags alarm and many threats are found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xray_lazy.evaluation.screening.bags import BagScores
from xray_lazy.evaluation.screening.curve import ROUNDING, Curve
from xray_lazy.evaluation.screening.figures import exact_interval

FOLDS = 5  # of bags, each judged at thresholds that were chosen on the others
ROUNDS = 5  # of giving each class's false alarms away anew


@dataclass(frozen=True)
class Rate:
    """A share of bags with its exact binomial interval (Clopper and Pearson 1934); NaN of no bags."""

    value: float
    low: float
    high: float
    bags: int

    @classmethod
    def of(cls, counts: np.ndarray, confidence: float) -> "Rate":
        """Of (B,) bool."""
        bags = len(counts)
        if not bags:
            return cls(np.nan, np.nan, np.nan, 0)
        value = float(counts.mean())
        return cls(value, *exact_interval(value, bags, confidence), bags)


@dataclass(frozen=True)
class Judgement:
    """What happens at fixed thresholds.

    Attributes:
        false_alarms: clean bags that alarm.
        detection: bags with a threat that is marked as what it is.
        alarms: bags with a threat that alarm, also beside it.
        classes: of the bags with an item of each class, those where it is marked as what it is.
        class_alarms: of all clean bags, those where each class alarms.
    """

    false_alarms: Rate
    detection: Rate
    alarms: Rate
    classes: tuple[Rate, ...]
    class_alarms: tuple[Rate, ...]


def judge(bags: BagScores, thresholds: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Judgement:
    """Of bags at (K,) thresholds, or at (B, K) of their own."""
    hit, alarm, is_threat = bags.hit >= thresholds, bags.alarm >= thresholds, bags.is_threat
    return Judgement(
        Rate.of(np.any(alarm[~is_threat], axis=1), confidence),
        Rate.of(np.any(hit[is_threat], axis=1), confidence),
        Rate.of(np.any(alarm[is_threat], axis=1), confidence),
        tuple(Rate.of(hit[there, k], confidence) for k, there in enumerate(bags.shows.T)),
        tuple(Rate.of(column, confidence) for column in alarm[~is_threat].T),
    )


def common_threshold(bags: BagScores, false_alarms: float) -> float:
    """One for all classes: the lowest with P_FA of at most so much in 0..1."""
    curve = Curve.of(*bags.of_all)
    return float(curve.thresholds[curve.place_at(false_alarms)])


def choose_thresholds(bags: BagScores, false_alarms: float) -> np.ndarray:
    """Thresholds (K,) with P_FA of at most so much in 0..1, and with P_D no lower than at one common threshold.

    Bags that alarm by several classes make this the budgeted maximum coverage problem, which nobody solves fast. It is
    approached as Khuller, Moss and Naor (1999) do: of all ways to lower one threshold take the one that detects the
    most bags for each false alarm, until the budget is used up; where one common threshold is better, take that. Then
    each class in turn gives back what it has, and the budget is spent anew, as long as that detects more. At last
    thresholds go down to further items of bags that are detected already, where no further clean bag alarms by it.

    A class without an item in any bag has nothing to choose by: it gets the common threshold.
    """
    common = common_threshold(bags, false_alarms)
    given = np.where(bags.shows.any(axis=0), np.inf, common)
    choice = _Choice(bags, false_alarms, given)
    found = choice.lowered(given)
    alike = np.full(len(given), common)
    if choice.value(alike) > choice.value(found):
        found = alike
    for _ in range(ROUNDS):
        before = choice.value(found)
        for k in np.flatnonzero(np.isinf(given)):
            changed = choice.lowered(np.where(np.arange(len(found)) == k, np.inf, found))
            if choice.value(changed) > choice.value(found):
                found = changed
        if choice.value(found) == before:
            break
    return choice.with_other_items(found, np.isinf(given))


def judge_across(
    bags: BagScores, false_alarms: float, confidence: float = 0.95, folds: int = FOLDS, seed: int = 0
) -> Judgement | None:
    """Each bag at the thresholds that are chosen on the other folds: what to expect of bags that played no part.

    None where there are fewer bags of a kind than folds.
    """
    is_threat, random = bags.is_threat, np.random.default_rng(seed)
    kinds = [np.flatnonzero(~is_threat), np.flatnonzero(is_threat)]
    if min(map(len, kinds)) < folds:
        return None
    fold = np.empty(len(is_threat), int)
    for kind in kinds:
        fold[random.permutation(kind)] = np.arange(len(kind)) % folds
    thresholds = np.stack([choose_thresholds(bags.only(fold != one), false_alarms) for one in range(folds)])
    return judge(bags, thresholds[fold], confidence)


class _Choice:
    """The hits and false alarms that could matter: at a lower threshold a class alone would use up the budget."""

    def __init__(self, bags: BagScores, false_alarms: float, given: np.ndarray):
        is_threat = bags.is_threat
        self.hit, self.alarm = bags.hit[is_threat], bags.alarm[~is_threat]
        self.most = int(np.floor((false_alarms + ROUNDING) * len(self.alarm)))
        self.hits = [self._places(self.hit[:, k], k) for k in range(len(given))]
        self.false = [self._places(self.alarm[:, k], k) for k in range(len(given))]

    def _places(self, scores: np.ndarray, k: int) -> np.ndarray:
        """Of the bags to look at, the highest score first."""
        clean = np.sort(self.alarm[:, k])[::-1]
        lowest = clean[self.most] if self.most < len(clean) else -np.inf
        return (order := np.argsort(-scores, kind="stable"))[scores[order] > lowest]

    def value(self, thresholds: np.ndarray) -> tuple[int, int]:
        """How many are detected; of equal ones the fewer false alarms."""
        return int(np.any(self.hit >= thresholds, axis=1).sum()), -int(np.any(self.alarm >= thresholds, axis=1).sum())

    def lowered(self, thresholds: np.ndarray) -> np.ndarray:
        """Thresholds as far down as the budget goes."""
        thresholds = thresholds.copy()
        detected, alarms = np.any(self.hit >= thresholds, axis=1), np.any(self.alarm >= thresholds, axis=1)
        while True:
            steps = [self._step(k, detected, alarms, self.most - int(alarms.sum())) for k in range(len(thresholds))]
            _, gain, k, threshold = max(steps)
            if not gain:
                return thresholds
            k = -k
            thresholds[k] = threshold
            detected |= self.hit[:, k] >= threshold
            alarms |= self.alarm[:, k] >= threshold

    def with_other_items(self, thresholds: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Those that are `free` (K,) as low as they detect more of their class without another false alarm."""
        silent = ~np.any(self.alarm >= thresholds, axis=1)
        bounds = self.alarm[silent].max(axis=0, initial=-np.inf)
        lowest = np.where(self.hit > bounds, self.hit, np.inf).min(axis=0, initial=np.inf)
        return np.where(free, np.minimum(thresholds, lowest), thresholds)

    def _step(self, k: int, detected: np.ndarray, alarms: np.ndarray, left: int) -> tuple[float, int, int, float]:
        """The best way to lower a class: detections for each false alarm, detections, -k, the threshold."""
        hits, false = self.hits[k], self.false[k]
        scores = self.hit[hits[~detected[hits]], k]
        costs = np.searchsorted(-self.alarm[false[~alarms[false]], k], -scores, side="right")
        scores = scores[costs <= left]
        if not len(scores):
            return 0.0, 0, -k, np.inf
        costs = costs[: len(scores)]
        gains = np.searchsorted(-scores, -scores, side="right")  # equal scores come together
        with np.errstate(divide="ignore"):
            best = np.lexsort((gains, gains / costs))[-1]
        return float(gains[best] / costs[best]) if costs[best] else np.inf, int(gains[best]), -k, float(scores[best])
