"""Stop trials that are worse than others were at the same point, as W&B's `early_terminate: {type: hyperband}` does.

Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization, JMLR 18 (2018); as with W&B it is
one bracket of successive halving that waits for no trial. Optuna's own pruner would count iterations of training in
place of logged values and spread the trials over brackets, and so give the same file another meaning.
"""

import math
from collections.abc import Sequence

from xray_lazy.sweeps.sweep_file import EarlyTerminate, Metric


def should_stop(
    stop: EarlyTerminate, metric: Metric, values: Sequence[float], others: Sequence[Sequence[float]]
) -> bool:
    """Whether a trial is outside of the best 1/eta, rounded up, of all that came as far as the last band it has passed.

    Args:
        stop: the bands, in numbers of logged values.
        metric: says what is better.
        values: of the trial, in the order in which they were logged.
        others: the same of all other trials, ended ones included.
    """
    passed = [band for band in stop.bands if band <= len(values)]
    if not passed:
        return False
    band = passed[-1]
    at_band = [curve[band - 1] for curve in (values, *others) if len(curve) >= band]
    ranked = sorted(at_band, reverse=metric.goal == "maximize")
    threshold = ranked[math.ceil(len(ranked) / stop.eta) - 1]
    reached = values[band - 1] if stop.strict else metric.best(list(values))
    return metric.is_better(threshold, reached)
