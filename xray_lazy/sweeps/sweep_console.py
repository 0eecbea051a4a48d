"""What a sweep says while it runs: a line for each trial's start and end, and on terminals a table of what runs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from xray_lazy.sweeps.axes import short_names
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.trials import Trial, best_trial


class SweepConsole:
    """Prints a sweep's progress; use it as a context.

    Args:
        sweep: whose parameters are shown.
    """

    def __init__(self, sweep: Sweep):
        self._sweep, self._names = sweep, short_names(sweep.varied)
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> "SweepConsole":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print one message."""
        self._console.print(text, markup=False)

    def started(self, trial: Trial, goes_on: bool) -> None:
        """Say that a trial starts, or goes on from where it was interrupted."""
        self.say(f"trial {trial.number} {'goes on' if goes_on else 'started'}: {self._settings(trial.parameters)}")

    def ended(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """Say how a trial ended, and which is the best until now."""
        value = f": {self._sweep.metric.name} {trial.value:.5g}" if trial.value is not None else ""
        reason = f": {trial.reason}" if trial.reason else ""
        time_taken = f" after {trial.seconds / 60:.1f} min" if trial.seconds is not None else ""
        best = best_trial(self._sweep.metric, trials)
        then = f"; best: trial {best.number} with {best.value:.5g}" if best and best.number != trial.number else ""
        then = "; the best until now" if best and best.number == trial.number else then
        self.say(f"trial {trial.number} {trial.state}{time_taken}{value}{reason}{then}")

    def show(self, running: Sequence[tuple[Trial, float, int | None, float | None]]) -> None:
        """Draw the table of running trials: (trial, its start by `time.monotonic`, last iteration, last value)."""
        if not self._live.is_started:
            return
        table = Table("trial", *self._names.values(), "iteration", self._sweep.metric.name, "minutes", box=None)
        for trial, start, iteration, value in running:
            settings = [_short(trial.parameters[key]) for key in self._names]
            row = [str(trial.number), *settings, "" if iteration is None else str(iteration)]
            minutes = f"{(time.monotonic() - start) / 60:.1f}"
            table.add_row(*row, "" if value is None else f"{value:.5g}", minutes)
        self._live.update(table if running else "", refresh=True)

    def _settings(self, parameters: Mapping[str, Any]) -> str:
        return " ".join(f"{name}={_short(parameters[key])}" for key, name in self._names.items()) or "no parameters"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
