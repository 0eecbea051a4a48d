"""A sweep that W&B holds: to make it, to find it again, and its trials as W&B and their folders know them."""

import contextlib
import importlib
import io
import math
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig

from xray_lazy.env import wandb_login
from xray_lazy.errors import UserError
from xray_lazy.failure import FAILURE_FILE, read_failure
from xray_lazy.run_folder import RunFolder
from xray_lazy.sweeps.search_space import Parameter
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.trial_metric import MetricSource
from xray_lazy.sweeps.trials import Trial
from xray_lazy.sweeps.wandb_registration import registered_value, trial_folder
from xray_lazy.tracking.logged_names import names_of
from xray_lazy.utils.wording import counted

# seconds that W&B may take for an answer
TIMEOUT = 30
INSTEAD = "or leave out --backend wandb: the embedded backend needs no server"
STATES = {
    "finished": "finished",
    "failed": "failed",
    "crashed": "killed",
    "killed": "killed",
    "preempted": "interrupted",
}
REASONS = {"failed": "it failed", "crashed": "it fell silent", "killed": "it was killed", "preempted": "W&B queues it"}

Answer = TypeVar("Answer")


class WandbSweep:
    """A sweep at W&B.

    Args:
        path: "entity/project/id".
        sweep: as its file says.
        cfg: the config of the trials, which says how trackers name metrics.
        folder: of the sweep; trials of this machine have their output folders in there.
    """

    def __init__(self, path: str, sweep: Sweep, cfg: DictConfig, folder: Path):
        self.path, self._sweep, self._folder = path, sweep, folder
        self._names = names_of(cfg)
        self._source = MetricSource(sweep.metric, cfg)

    @property
    def url(self) -> str:
        """Of its page."""
        return _ask(lambda: _api().sweep(self.path).url)

    def check(self) -> None:
        """Raise a UserError where there is no such sweep, or it has other parameters than the file."""
        there = set(_ask(lambda: _api().sweep(self.path).config).get("parameters", {}))
        if there != set(self._sweep.parameters):
            names = ", ".join(sorted(there ^ set(self._sweep.parameters)))
            fix = "give the file that it was made from, or leave out --sweep-id to make a new one"
            raise UserError(f"the sweep {self.path} and the file differ in their parameters: {names}", fix)

    def trials(self) -> list[Trial]:
        """Its trials of all machines, in the order of their starts.

        Raises:
            UserError: W&B doesn't answer.
        """
        runs = sorted(_ask(lambda: list(_api().sweep(self.path).runs)), key=lambda run: run.created_at)
        return [self._trial(number, run) for number, run in enumerate(runs)]

    def _trial(self, number: int, run: Any) -> Trial:
        folder, summary = trial_folder(self._folder, run.id), dict(run.summary)
        state, value, reason, curve = STATES.get(run.state, "running"), None, REASONS.get(run.state, ""), {}
        if RunFolder(folder).metrics.is_file():
            values = self._source.read(folder)
            curve = values.finite
            if state == "finished" and not RunFolder(folder).is_complete():
                state, reason = "pruned", f"stopped after {counted(len(curve), 'value')}"
        if state == "failed":
            failure = read_failure(folder / FAILURE_FILE)
            reason = failure.headline if failure else reason
        if state == "finished":
            value, reason = self._source.value_at_end(values) if curve else self._from_summary(summary)
            state = "failed" if value is None else state
        started = datetime.fromisoformat(run.created_at.rstrip("Z"))
        return Trial(
            number=number,
            state=state,
            parameters={key: _setting(parameter, run.config) for key, parameter in self._sweep.parameters.items()},
            folder=folder,
            reason=reason,
            value=value,
            intermediate_values=curve,
            started=started,
            ended=None if state == "running" else started + timedelta(seconds=summary.get("_runtime", 0)),
        )

    def _from_summary(self, summary: Mapping[str, Any]) -> tuple[float | None, str]:
        """The metric as W&B has it, of a trial of another machine, in the sweep's units; or why there is none."""
        name = self._sweep.metric.name
        event, logged = self._names.both(name)
        value = summary.get(logged)
        if self._sweep.metric.value == "best":
            value = summary.get(f"best/{logged}", value)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return None, f"W&B has no {logged} of it"
        return value / (self._names.scale(event) if name == event else 1.0), ""


def check_access() -> None:
    """Raise a UserError where W&B isn't installed, nobody is logged in, or it is told to be offline."""
    try:
        importlib.import_module("wandb.apis")  # W&B's own output folder can pass for an empty package
    except ImportError:
        raise UserError("W&B is not installed", f"pip install wandb; {INSTEAD}") from None
    mode = os.environ.get("WANDB_MODE", "online")
    if mode not in ("online", "run", "auto"):
        raise UserError(f"a sweep at W&B needs its server, but WANDB_MODE is {mode}", f"unset WANDB_MODE; {INSTEAD}")
    if not wandb_login():
        raise UserError("nobody is logged in to W&B", f"wandb login; {INSTEAD}")


def register(document: dict[str, Any], sweep: Sweep, cfg: DictConfig) -> str:
    """Make the sweep at W&B from its registration; returns its path, "entity/project/id".

    Raises:
        UserError: W&B doesn't answer, or refuses.
    """
    from wandb import sweep as make

    entity, project = place_of(sweep, cfg)
    with contextlib.redirect_stdout(io.StringIO()):  # it tells what `WandbSweep` does
        sweep_id = _ask(lambda: make(document, entity=entity, project=project))
    return f"{entity}/{project}/{sweep_id}"


def place_of(sweep: Sweep, cfg: DictConfig) -> tuple[str, str]:
    """Entity and project: those of the sweep file, else of the config's W&B writer, else the person's own entity.

    Raises:
        UserError: the config has no W&B writer, so that trials would tell W&B nothing; or W&B doesn't answer.
    """
    writer = cfg.writers.get("wandb")
    if writer is None:
        raise UserError("the config has no writers.wandb, which would tell W&B of the trials", f"add it; {INSTEAD}")
    entity = sweep.entity or writer.get("entity") or _ask(lambda: _api().default_entity)
    return entity, sweep.project or writer.project


def _setting(parameter: Parameter, config: Mapping[str, Any]) -> Any:
    """A parameter's value in a run's config, which has it by its dotted key or in groups."""
    value: Any = config
    for part in [parameter.key] if parameter.key in config else parameter.key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if parameter.values is None:
        return value
    return next((one for one in parameter.values if value in (one, registered_value(parameter.key, one))), value)


def _api() -> Any:
    from wandb import Api, Settings, setup

    setup(settings=Settings(silent=True))
    return Api(timeout=TIMEOUT)


def _ask(question: Callable[[], Answer]) -> Answer:
    """What W&B answers.

    Raises:
        UserError: it doesn't.
    """
    try:
        return question()
    except Exception as error:  # W&B's client has no one error for all that can go wrong
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        fix = "look at network, names and log-in (wandb login --verify); " + INSTEAD
        raise UserError(f"W&B doesn't answer as it should: {reason}", fix) from None
