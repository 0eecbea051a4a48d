"""A sweep whose trials W&B chooses: register it or join it, run agents, and write the results as they come."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from xray_lazy.errors import UserError
from xray_lazy.sweeps.study import JOURNAL
from xray_lazy.sweeps.sweep_console import SweepConsole
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.sweep_results import write_results
from xray_lazy.sweeps.training_command import TrainingCommand
from xray_lazy.sweeps.trials import Trial
from xray_lazy.sweeps.wandb_agents import run_agents
from xray_lazy.sweeps.wandb_registration import registration
from xray_lazy.sweeps.wandb_sweep import WandbSweep, check_access, place_of, register
from xray_lazy.utils.atomic_file import write_text

PATH_NAME = "wandb_sweep.txt"


def run_wandb_sweep(
    sweep: Sweep,
    cfg: DictConfig,
    command: TrainingCommand,
    folder: Path,
    places: Sequence[Mapping[str, str]],
    count: int | None = None,
    sweep_id: str | None = None,
) -> tuple[list[Trial], int | None]:
    """Run trials of a sweep at W&B; returns those of all machines, and the signal that ended this, if any.

    A folder that has begun one at W&B goes on with it.

    Args:
        sweep: as its file says.
        cfg: the config of the trials, with the overrides that are the same for all of them.
        command: of the trials; a sweep that is joined has its own.
        folder: of the sweep.
        places: devices for each of the agents, as they are added to the environment.
        count: trials of the sweep, those included that it has; None for as many as W&B has.
        sweep_id: of a sweep to join, "id", "project/id" or "entity/project/id".

    Raises:
        UserError: W&B can't be asked, or the sweep to join is another one.
        RunFailure: an agent ended with an error.
    """
    check_access()
    held = WandbSweep(_path(sweep, cfg, command, folder, sweep_id), sweep, cfg, folder)
    held.check()
    with SweepConsole(sweep) as console:
        console.say(f"W&B sweep: {held.url}")
        console.say(f"from another machine: the same command with --sweep-id {held.path}")
        news = _News(held, sweep, folder, console)
        ended_by = None
        left = None if count is None else count - len(held.trials())
        if left is None or left > 0:
            ended_by = run_agents(held.path, folder, places, left, news.tell)
    return held.trials(), ended_by


def _path(sweep: Sweep, cfg: DictConfig, command: TrainingCommand, folder: Path, sweep_id: str | None) -> str:
    """Of the sweep to join, of that which the folder has begun, or of a new one."""
    record = folder / PATH_NAME
    if (folder / JOURNAL).is_file():
        fix = "go on without --backend wandb, or give another --output-dir"
        raise UserError(f"the folder {folder} holds a sweep of the embedded backend", fix)
    if sweep_id:
        entity, project = place_of(sweep, cfg)
        given = sweep_id.split("/")
        path = "/".join([entity, project][: 3 - len(given)] + given)
    elif record.is_file():
        return record.read_text(encoding="utf-8").strip()
    else:
        path = register(registration(sweep, cfg, command, folder), sweep, cfg)
    write_text(record, path + "\n")
    return path


class _News:
    """Tells of trials that started or ended since it was asked last, and keeps the results up to date."""

    def __init__(self, held: WandbSweep, sweep: Sweep, folder: Path, console: SweepConsole):
        self._held, self._sweep, self._folder, self._console = held, sweep, folder, console
        self._states = {trial.name: trial.state for trial in held.trials()}

    def tell(self) -> None:
        try:
            trials = self._held.trials()
        except UserError:
            return  # agents go on without W&B for a while, and so does this
        changed = [trial for trial in trials if self._states.get(trial.name) != trial.state]
        for trial in changed:
            self._states[trial.name] = trial.state
            if trial.state == "running":
                self._console.started(trial, goes_on=False)
            else:
                self._console.ended(trial, trials)
        if any(trial.state != "running" for trial in changed):
            write_results(self._folder, self._sweep, trials)
