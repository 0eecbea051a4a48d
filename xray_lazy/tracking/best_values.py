"""The best value so far of what is better the higher or the lower it is, over all starts of a run."""

import math
from collections.abc import Mapping
from pathlib import Path

from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.tracking.logged_names import LoggedNames, Template

SIGNS = {"max": 1, "min": -1}


class BestValues:
    """Best values by logged name.

    Args:
        goals: "max" or "min" by pattern of event names, as in the tables of `LoggedNames`; of several patterns the last
            one counts, and what none fits has no best.
        names: under which values are logged.

    Raises:
        UserError: a goal is neither max nor min.
    """

    def __init__(self, goals: Mapping[str, str], names: LoggedNames):
        for pattern, goal in goals.items():
            if goal not in SIGNS:
                raise UserError(f"the best {pattern} is its {goal!r}", "give max or min for each pattern")
        self._goals = [(Template(pattern), SIGNS[goal]) for pattern, goal in goals.items()]
        self._names = names
        self._signs: dict[str, int] = {}
        self._best: dict[str, float] = {}

    def improved(self, values: Mapping[str, float]) -> dict[str, float]:
        """Those of `values`, by logged name, that are better than all before."""
        better = {
            name: value
            for name, value in values.items()
            if (sign := self._sign(name))
            and math.isfinite(value)
            and (name not in self._best or sign * (value - self._best[name]) > 0)
        }
        self._best |= better
        return better

    def read(self, output_dir: str | Path, end: int) -> dict[str, float]:
        """The best values that a run has logged before the iteration `end`."""
        for line in RunFolder(output_dir).read_metrics():
            if line["iteration"] < end:
                numbers = {event: value for event, value in line.items() if isinstance(value, int | float)}
                self.improved({self._names.logged(e): self._names.scale(e) * v for e, v in numbers.items()})
        return dict(self._best)

    def _sign(self, name: str) -> int:
        """1 where higher is better, -1 where lower is, 0 for all else."""
        if name not in self._signs:
            event = self._names.event(name)
            fitting = [sign for pattern, sign in self._goals if pattern.texts_in(event) is not None]
            self._signs[name] = fitting[-1] if fitting else 0
        return self._signs[name]
