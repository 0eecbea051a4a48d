"""The metric of a trial, from its run's `metrics.json`."""

import math
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.run_folder import METRICS, RunFolder
from xray_lazy.sweeps.sweep_file import Metric
from xray_lazy.tracking.logged_names import names_of


@dataclass(frozen=True)
class TrialValues:
    """What a run has logged until now.

    Attributes:
        by_iteration: the metric's values; None for one that isn't finite.
        last_iteration: of the run; None where nothing was logged.
        names: of all that was logged.
    """

    by_iteration: dict[int, float | None]
    last_iteration: int | None
    names: tuple[str, ...] = ()

    @property
    def finite(self) -> dict[int, float]:
        """The values that are numbers."""
        return {iteration: value for iteration, value in self.by_iteration.items() if value is not None}


def event_name(metric: Metric, cfg: DictConfig) -> str:
    """The event storage's name of a metric that may have the trackers' one."""
    event = names_of(cfg).event(metric.name)
    return metric.name if event is None else event


class MetricSource:
    """Reads a sweep's metric under the event storage's name, which `metrics.json` has, whichever name the sweep gives.

    Args:
        metric: its name may be the trackers' one, and then the values are as the trackers have them.
        cfg: the config of the trials, which says how trackers name things.
    """

    def __init__(self, metric: Metric, cfg: DictConfig):
        self._metric, names = metric, names_of(cfg)
        self._event = event_name(metric, cfg)
        self._scale = names.scale(self._event) if self._event != metric.name else 1.0

    def read(self, folder: Path) -> TrialValues:
        """The values in a run's output folder."""
        lines = RunFolder(folder).read_metrics()
        values = {line["iteration"]: self._scaled(line[self._event]) for line in lines if self._event in line}
        return TrialValues(values, max((line["iteration"] for line in lines), default=None), _names(lines))

    def value_at_end(self, values: TrialValues) -> tuple[float | None, str]:
        """The value of a run that has ended, as the sweep wants it, and where there is none, why.

        The reason ends with a fix where the run has never logged the metric.
        """
        finite = values.finite
        if not values.by_iteration:
            near = did_you_mean(nearest(self._event, values.names)) or f"there are {', '.join(values.names[:20])}"
            return None, f"{METRICS} has no {self._metric.name}; {near}"
        if not finite:
            return None, f"no value of {self._metric.name} is finite"
        if self._metric.value == "best":
            return self._metric.best(list(finite.values())), ""
        last = max(finite)
        if self._metric.value == "final" and last != values.last_iteration:
            return None, f"there is no {self._metric.name} at the final iteration {values.last_iteration}"
        return finite[last], ""

    def _scaled(self, value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else value * self._scale


def _names(lines: list[dict]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for line in lines for name in line if name != "iteration"))
