"""How the next trial's parameters are chosen: Optuna's samplers, with randomness by the trial's number."""

import itertools
import warnings
import zlib
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from xray_lazy.config.override_text import value_text
from xray_lazy.sweeps.sweep_file import Sweep

# Random trials before the first model of the metric; Optuna's 10 would be all that most sweeps of trainings have.
STARTUP_TRIALS = 5


def make_sampler(sweep: Sweep) -> BaseSampler:
    """The sampler for a sweep's method."""
    return GridInOrder(sweep) if sweep.method == "grid" else SeededByTrial(sweep)


def grid_size(sweep: Sweep) -> int | None:
    """The number of combinations; None where the method isn't grid."""
    if sweep.method != "grid":
        return None
    size = 1
    for parameter in sweep.parameters.values():
        size *= len(parameter.grid())
    return size


class GridInOrder(BaseSampler):
    """The trial's number says which combination it takes, so that workers can't take one twice."""

    def __init__(self, sweep: Sweep):
        self._keys = list(sweep.varied)
        self._combinations = list(itertools.product(*(parameter.grid() for parameter in sweep.varied.values())))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        combination = self._combinations[trial.number % len(self._combinations)]
        return value_text(combination[self._keys.index(param_name)])


class SeededByTrial(BaseSampler):
    """A new sampler of Optuna's for each trial, seeded by the sweep's seed and the trial's number.

    What a trial gets then depends on the trials before it alone, not on which worker asks, and not on how often the
    sweep was resumed.
    """

    def __init__(self, sweep: Sweep):
        self._sweep = sweep
        self._sampler = self._make(0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler = self._make(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def _make(self, number: int) -> BaseSampler:
        seed = zlib.crc32(f"{self._sweep.seed} {number}".encode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if self._sweep.method == "random":
                return RandomSampler(seed=seed)
            if self._sweep.sampler == "gp":
                return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
            # parallel trials: a running one counts as bad, so that the next one looks elsewhere
            return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)
