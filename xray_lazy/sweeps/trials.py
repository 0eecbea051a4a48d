"""The trials of a sweep, as its folder records them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from xray_lazy.sweeps.sweep_file import Metric

STATES = ("running", "interrupted", "finished", "pruned", "failed", "killed")


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0, in the order in which they were first started.
        state: "running"; "interrupted": its worker is gone, the next one goes on with it; "finished": it has a value;
            "pruned": stopped early, as others were better; "failed": it ended with an error; "killed": by a signal.
        parameters: by config key, constant ones included.
        folder: the run's output folder.
        reason: why it is pruned, failed, killed or interrupted; else empty.
        value: of the metric, for finished trials.
        intermediate_values: the metric by iteration, as far as it was read.
        started, ended: local times; `ended` is None while it is not at its end.
        worker: "host:process id" of the worker that runs it, or ran it last.
    """

    number: int
    state: str
    parameters: dict[str, Any]
    folder: Path
    reason: str = ""
    value: float | None = None
    intermediate_values: dict[int, float] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    worker: str = ""

    @property
    def name(self) -> str:
        """Of its folder: `0003`."""
        return self.folder.name

    @property
    def seconds(self) -> float | None:
        """From the first start to the end, pauses included."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


def best_trial(metric: Metric, trials: Sequence[Trial]) -> Trial | None:
    """The finished trial with the best value, the first of equals; None where there is none."""
    best = None
    for trial in trials:
        if trial.state != "finished" or trial.value is None:
            continue
        if best is None or metric.is_better(trial.value, best.value):
            best = trial
    return best
