"""Detection against false alarms over all thresholds, with the figures that a screening point decides by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# Numbers of an array at a time in a bootstrap: 32 MB of doubles.
ARRAY_SIZE = 4_000_000
# A rate from a percentage may lie a little beside the share of bags that it means: 2.8 / 100 is less than 7 / 250.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Curve:
    """Shares of bags at T thresholds from infinity downwards; a bag alarms where its score is not below.

    Attributes:
        thresholds: (T,) falling; the first is infinite, where nothing alarms.
        false_alarms: (T,) P_FA in 0..1, of the clean bags; it rises. NaN where there are none.
        detections: (T,) P_D in 0..1, of the bags with a threat: by a detection that shows it.
        alarms: (T,) of the bags with a threat: by any detection.
        clean, threats: how many bags there are of each kind.
    """

    thresholds: np.ndarray
    false_alarms: np.ndarray
    detections: np.ndarray
    alarms: np.ndarray
    clean: int
    threats: int

    @classmethod
    def of(cls, is_threat: np.ndarray, alarm: np.ndarray, hit: np.ndarray) -> "Curve":
        """From (B,) bool and the scores of (B,) bags.

        Args:
            is_threat: whether a bag has a threat.
            alarm: the best score of any detection.
            hit: the best score of one that shows the threat, at most `alarm`; of clean bags it is not asked.
        """
        thresholds = _thresholds(alarm, hit)
        clean, threats = int((~is_threat).sum()), int(is_threat.sum())
        return cls(
            thresholds,
            _share(alarm[~is_threat], thresholds),
            _share(hit[is_threat], thresholds),
            _share(alarm[is_threat], thresholds),
            clean,
            threats,
        )

    def place_at(self, false_alarms: float) -> int:
        """The number of the lowest threshold with P_FA of at most so much."""
        return int(np.searchsorted(self.false_alarms, false_alarms + ROUNDING, side="right")) - 1

    def detection_at(self, false_alarms: float) -> float:
        """P_D at the lowest threshold with P_FA of at most so much; NaN where there are no such bags.

        Nothing is interpolated: a threshold can be set, a point between two can't.
        """
        return float(self.detections[self.place_at(false_alarms)]) if self.clean and self.threats else np.nan

    def false_alarms_at(self, detection: float) -> float:
        """P_FA at the highest threshold with P_D of at least so much; NaN where no threshold has it."""
        place = int(np.searchsorted(self.detections, detection - ROUNDING, side="left"))
        return float(self.false_alarms[place]) if place < len(self.thresholds) and self.clean else np.nan

    def area(self, most_false_alarms: float = 1.0) -> float:
        """Below the curve of P_D over P_FA, by trapezoids, from 0 to `most_false_alarms`, divided by that.

        The curve ends where the lowest threshold lies, and goes on level from there: with hits in place of alarms it
        need not reach 1. Where each alarm on a threat is a hit it is the area under the ROC curve: the chance that a
        bag with a threat has a higher score than a clean one (Hanley and McNeil 1982).
        """
        if not (self.clean and self.threats):
            return np.nan
        rates, values = np.append(self.false_alarms, 1.0), np.append(self.detections, self.detections[-1])
        inside = rates <= most_false_alarms
        edge = np.interp(most_false_alarms, rates, values)
        rates, values = np.append(rates[inside], most_false_alarms), np.append(values[inside], edge)
        return float(np.trapezoid(values, rates)) / most_false_alarms


def corner_places(rates: np.ndarray, most: int) -> np.ndarray:
    """Places of the most that is reached at each of the rates (T,), which rise: at most `most` of them, evenly spread,
    the first and the last among them."""
    corners = np.flatnonzero(np.diff(rates, append=np.inf))
    return corners[spread(len(corners), most)]


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the places 0, 1, ... of `count`, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


@dataclass(frozen=True)
class Draws:
    """Figures in each of R draws of a bootstrap over bags; NaN without clean bags or without threats.

    Attributes:
        detections: (R, F) P_D at each P_FA that was asked for.
        false_alarms: (R, D) P_FA at each P_D that was asked for; 1 where no threshold reaches it: all bags are
            to be opened then.
        area: (R,) as `Curve.area`.
    """

    detections: np.ndarray
    false_alarms: np.ndarray
    area: np.ndarray


def draw_figures(
    is_threat: np.ndarray,
    alarm: np.ndarray,
    hit: np.ndarray,
    false_alarms: Sequence[float],
    detections: Sequence[float] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Draws:
    """A bootstrap over bags; equal seeds draw equal bags.

    Clean bags and bags with a threat are drawn apart: a test has a stated number of each.

    Args:
        is_threat, alarm, hit: (B,), as `Curve.of`.
        false_alarms, detections: P_FA and P_D in 0..1.
    """
    thresholds = _thresholds(alarm, hit)
    random = np.random.default_rng(seed)
    shapes = (resamples, len(false_alarms)), (resamples, len(detections)), (resamples,)
    drawn = Draws(*(np.full(shape, np.nan) for shape in shapes))
    if is_threat.all() or not is_threat.any():
        return drawn
    # the number of the highest threshold at which a bag counts
    clean = _number(alarm[~is_threat], thresholds)
    threats = _number(hit[is_threat], thresholds)
    for part in _parts(resamples, len(thresholds) + len(alarm)):
        count = part.stop - part.start
        rates = _drawn_shares(random, clean, len(thresholds), count)
        values = _drawn_shares(random, threats, len(thresholds), count)
        for column, rate in enumerate(false_alarms):
            places = (rates <= rate + ROUNDING).sum(axis=1) - 1
            drawn.detections[part, column] = _at(values, places)
        for column, rate in enumerate(detections):
            places = (values < rate - ROUNDING).sum(axis=1)
            found = _at(rates, np.minimum(places, len(thresholds) - 1))
            drawn.false_alarms[part, column] = np.where(places < len(thresholds), found, 1.0)
        drawn.area[part] = np.trapezoid(values, rates, axis=1) + values[:, -1] * (1 - rates[:, -1])
    return drawn


def _at(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.take_along_axis(rows, places[:, None], axis=1)[:, 0]


def _thresholds(*scores: np.ndarray) -> np.ndarray:
    known = np.unique(np.concatenate(scores))
    return np.append(np.inf, known[np.isfinite(known)][::-1])


def _share(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    if not len(scores):
        return np.full(len(thresholds), np.nan)
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")) / len(scores)


def _number(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Of the threshold that is the score; one beyond the last for a bag that never alarms."""
    return np.searchsorted(-thresholds, -scores, side="left")


def _drawn_shares(random: np.random.Generator, numbers: np.ndarray, thresholds: int, draws: int) -> np.ndarray:
    """`_share` in each of the draws, (draws, thresholds)."""
    bags = len(numbers)
    drawn = numbers[random.integers(bags, size=(draws, bags))] + (thresholds + 1) * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * (thresholds + 1)).reshape(draws, -1)
    return counts[:, :thresholds].cumsum(axis=1) / bags


def _parts(draws: int, size: int) -> Iterator[slice]:
    step = max(1, ARRAY_SIZE // size)
    for start in range(0, draws, step):
        yield slice(start, min(start + step, draws))
