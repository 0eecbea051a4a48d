"""The config of a run that is evaluated, wherever its output folder is now, and the device to do it on."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from xray_lazy.config import Fault, load_config
from xray_lazy.config.keys import parts_of
from xray_lazy.engine.prepare import Prepared, evaluation_faults, prepare
from xray_lazy.engine.processes.launch import count_gpus
from xray_lazy.engine.processes.launch_plan import LaunchPlan
from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder


def load_run_config(run_folder: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The checked config of a run, with its files in `run_folder`.

    Raises:
        UserError: any fault of the config or of the data that evaluation needs.
    """

    def adapt(cfg: DictConfig) -> None:
        _move_paths(cfg.writers, Path(cfg.train.output_dir), run_folder)
        cfg.train.output_dir = str(run_folder)
        cfg.train.init_checkpoint = ""  # the checkpoints are the weights, so that none are missing

    def find_faults(prepared: Prepared) -> list[Fault]:
        return [fault for fault in evaluation_faults(prepared) if fault.key != "train.init_checkpoint"]

    config = load_config(RunFolder(run_folder).config)
    return prepare(config, overrides, plan=LaunchPlan, adapt=adapt, find_faults=find_faults).cfg


def await_config(run_folder: Path, follow: bool, timeout: float, poll: float, report: Callable[[str], None]) -> None:
    """Return when the run has a config; a training that was submitted may not have started yet.

    Args:
        run_folder: the run's output folder, which is there.
        follow: wait for it.
        timeout: seconds to wait.
        poll: seconds between two looks.
        report: is told about waiting.

    Raises:
        UserError: there is none.
    """
    end = time.monotonic() + timeout if follow else 0.0
    config = RunFolder(run_folder).config
    if not run_folder.is_dir():
        raise UserError(f"there is no run folder {run_folder}", "give the train.output_dir of a training")
    RunFolder(run_folder).check_is_no_sweep()
    if not config.is_file() and follow:
        report(f"waiting for a training to start in {run_folder}")
    while not config.is_file():
        if time.monotonic() >= end:
            message = f"no training has started in {run_folder}: it has no {config.name}"
            raise UserError(message, "give the train.output_dir of a training")
        time.sleep(poll)


def choose_device(name: str) -> str:
    """The device for "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return "cuda" if count_gpus() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdigit())):
        raise UserError(f"the device is {name!r}", "it may be auto, cpu, cuda or, for one of several, cuda:1")
    if kind == "cuda" and int(number or 0) >= count_gpus():
        raise UserError(f"there is no device {name}: this machine has {count_gpus() or 'no'} GPUs", "try --device cpu")
    return name


def _move_paths(node: DictConfig | ListConfig, old: Path, new: Path) -> None:
    """Let paths below `old` be those below `new`: the folder was moved, or is looked at from another one."""
    if old.resolve() == new.resolve() or old == Path():
        return
    for key in parts_of(node):
        value = node[key]
        if isinstance(value, DictConfig | ListConfig):
            _move_paths(value, old, new)
        elif isinstance(value, str) and Path(value).is_relative_to(old):
            node[key] = str(new / Path(value).relative_to(old))
