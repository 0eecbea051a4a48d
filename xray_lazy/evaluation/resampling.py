"""What draws of a bootstrap say, and which scores can't be told apart."""

import numpy as np


def interval(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile bounds (Efron and Tibshirani 1993, chapter 13) of the values that are not NaN; NaN for none."""
    values = drawn[~np.isnan(drawn)]
    if not values.size:
        return np.nan, np.nan
    outside = 50 * (1 - confidence)
    low, high = np.percentile(values, [outside, 100 - outside])
    return float(low), float(high)


def verdict(low: float, high: float) -> str:
    """What the interval of a change says: "better", "worse" or, where 0 is in it, "no difference shown"."""
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def ends_of_ties(scores: np.ndarray) -> np.ndarray:
    """The last place of each run of equal scores; `scores` (N,) falls. Equal ones come and go together."""
    return np.flatnonzero(np.append(scores[1:] != scores[:-1], len(scores) > 0))
