"""From a sweep file and flags to its results."""

import shlex
import signal
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from xray_lazy.config import raise_faults
from xray_lazy.engine.prepare import prepare
from xray_lazy.engine.processes.launch import plan_launch
from xray_lazy.engine.processes.launch_plan import LaunchPlan
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.sweeps.launcher import TrialLauncher
from xray_lazy.sweeps.local_launcher import LocalLauncher, share_gpus, share_processors
from xray_lazy.sweeps.runner import SweepRunner
from xray_lazy.sweeps.samplers import grid_size
from xray_lazy.sweeps.space_check import describe_space, space_faults, without_odd_batches
from xray_lazy.sweeps.study import SweepStudy, list_trials, trial_folder
from xray_lazy.sweeps.sweep_console import SweepConsole
from xray_lazy.sweeps.sweep_file import Sweep, read_sweep
from xray_lazy.sweeps.sweep_folder import open_sweep_folder
from xray_lazy.sweeps.sweep_results import format_results, write_results
from xray_lazy.sweeps.training_command import TrainingCommand
from xray_lazy.sweeps.trial_metric import MetricSource
from xray_lazy.sweeps.trials import Trial, best_trial
from xray_lazy.sweeps.wandb_summary import log_summary
from xray_lazy.sweeps.workers import Worker
from xray_lazy.utils.results_place import check_result_folder
from xray_lazy.utils.wording import counted


@dataclass
class SweepOptions:
    """What the command line says."""

    sweep_file: str
    config_file: str
    overrides: list[str] = field(default_factory=list)
    num_gpus: int | None = None
    num_processes: int | None = None
    trials_in_parallel: int = 1
    count: int | None = None
    output_dir: str | None = None
    backend: str = "optuna"
    sweep_id: str | None = None
    dry_run: bool = False


def run_sweep(options: SweepOptions, launcher: TrialLauncher | None = None) -> int:
    """Run trials, as one of maybe several workers, until the sweep has enough of them; write its results.

    Args:
        options: as given.
        launcher: starts the trials somewhere else; None for this machine's devices.

    Returns:
        The exit code: 0, or 128 and the signal's number where one has ended it.

    Raises:
        UserError: any fault of sweep, config, data or devices, before anything is started or written; the folder holds
            another sweep; or the first trials have all ended with user errors.
        RunFailure: all trials have failed.
    """
    sweep, cfg, command, places = _check(options, is_local=launcher is None)
    folder = Path(options.output_dir or f"output/sweeps/{Path(options.sweep_file).stem}")
    check_result_folder(folder)
    if options.dry_run:
        print(describe(sweep, command, folder))
        return 0
    if options.backend == "wandb":
        from xray_lazy.sweeps.wandb_backend import run_wandb_sweep

        open_sweep_folder(folder, sweep, cfg)
        trials, ended_by = run_wandb_sweep(sweep, cfg, command, folder, places, options.count, options.sweep_id)
        _show_results(folder, sweep, trials)
        return _exit_code(ended_by, folder, trials)
    limit = trial_limit(sweep, options.count)
    joined = open_sweep_folder(folder, sweep, cfg)
    metric = MetricSource(sweep.metric, cfg)
    code = _work(folder, sweep, limit, launcher or LocalLauncher(places), command, metric, joined)
    if code == 0:
        log_summary(folder, sweep, list_trials(folder), cfg)
    return code


def _check(options: SweepOptions, is_local: bool) -> tuple[Sweep, DictConfig, TrainingCommand, list[dict[str, str]]]:
    """Read and check everything: the sweep, the config of its trials, their command, and the devices they share."""
    for flag, number in (("--trials-in-parallel", options.trials_in_parallel), ("--count", options.count)):
        if number is not None and number < 1:
            raise UserError(f"{flag} is {number}", "give 1 or more")
    sweep = read_sweep(options.sweep_file)
    prepared = prepare(options.config_file, options.overrides, plan=LaunchPlan, find_faults=None)
    cfg, gpus, processes, places = prepared.cfg, options.num_gpus, options.num_processes, []
    if is_local:
        plan = plan_launch(cfg.train.device, gpus, processes)
        gpus, processes = (plan.processes, None) if plan.device == "cuda" else (None, plan.processes)
        places = share_gpus(options.trials_in_parallel, gpus) if gpus else []
        places = places or share_processors(options.trials_in_parallel, processes)
    world_size = gpus or processes or 1
    sweep, odd = without_odd_batches(sweep, cfg, world_size)
    raise_faults(space_faults(sweep, cfg, prepared.overridden, world_size))
    if odd:
        print(f"left out: batches of {', '.join(map(str, odd))}, which {world_size} processes can't share evenly")
    return sweep, cfg, TrainingCommand(options.config_file, options.overrides, gpus, processes), places


def trial_limit(sweep: Sweep, count: int | None) -> int:
    """How many trials the sweep may have, over all workers and all times that it is started.

    Raises:
        UserError: nothing says when to stop.
    """
    bounds = [bound for bound in (count, sweep.run_cap, grid_size(sweep)) if bound is not None]
    if not bounds:
        raise UserError(f"a {sweep.method} sweep has no end by itself", "say how many trials: --count 20")
    return min(bounds)


def describe(sweep: Sweep, command: TrainingCommand, folder: Path) -> str:
    """The checked space, and the command of an example trial."""
    metric, stop = sweep.metric, sweep.early_terminate
    middle = {key: parameter.at(0.5) for key, parameter in sweep.parameters.items()}
    lines = [
        f"{sweep.name}: {sweep.method}, {metric.goal} the {metric.value} value of {metric.name}",
        describe_space(sweep),
    ]
    if grid_size(sweep):
        lines.append(f"{grid_size(sweep)} combinations")
    if stop:
        bands = ", ".join(map(str, stop.bands[:4])) + (", ..." if len(stop.bands) > 4 else "")
        lines.append(f"trials outside of the best 1/{stop.eta:g} stop after {bands} values of {metric.name}")
    example = command.of(middle, trial_folder(folder, 0))
    return "\n".join([*lines, "a trial, for example:", "  " + shlex.join(example)])


def _work(
    folder: Path,
    sweep: Sweep,
    limit: int,
    launcher: TrialLauncher,
    command: TrainingCommand,
    metric: MetricSource,
    joined: bool,
) -> int:
    worker = Worker(folder)
    try:
        study = SweepStudy(folder, sweep, worker)
    except BaseException:  # the results that are there stay as they are
        worker.close()
        raise
    try:
        with SweepConsole(sweep) as console:
            there = len(study.trials())
            console.say(
                f"{'joined' if joined else 'started'} the sweep in {folder}: {there} of {limit} trials are there"
            )
            keep = partial(_keep_results, folder, sweep, console)
            ended_by = SweepRunner(study, worker, launcher, command, metric, console, keep).run(limit)
    finally:
        worker.close()
        _show_results(folder, sweep, list_trials(folder))
    return _exit_code(ended_by, folder, list_trials(folder))


def _exit_code(ended_by: int | None, folder: Path, trials: list[Trial]) -> int:
    """Raises: RunFailure: the sweep has all its trials, and nothing has come of any."""
    if ended_by is None:
        if trials and all(trial.state in ("failed", "killed") for trial in trials):
            raise RunFailure(
                f"nothing has come of the sweep in {folder}: {counted(len(trials), 'trial')} failed, "
                f"the last one: {trials[-1].reason}",
                "correct that, then start the sweep anew in another --output-dir",
            )
        return 0
    print(f"ended by {signal.Signals(ended_by).name}; the same command goes on with it")
    return 128 + ended_by


def _keep_results(folder: Path, sweep: Sweep, console: SweepConsole, trials: list[Trial]) -> None:
    """What a sweep has when it is killed; trials matter more than results that can be written later."""
    try:
        write_results(folder, sweep, trials)
    except OSError as error:
        console.say(f"the results can't be written at present: {error}")


def _show_results(folder: Path, sweep: Sweep, trials: list[Trial]) -> None:
    if trials:
        print(format_results(sweep, trials))
        for path in write_results(folder, sweep, trials):
            print(f"wrote {path}")
        best = best_trial(sweep.metric, trials)
        if best and not best.folder.is_dir():
            print(f"the best trial's folder {best.folder} is not there: its config and weights are lost or elsewhere")
