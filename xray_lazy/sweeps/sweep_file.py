"""A sweep as W&B's sweep YAML describes it, read and checked; https://docs.wandb.ai/models/sweeps/sweep-config-keys."""

import copy
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray_lazy.config.faults import Fault, raise_faults
from xray_lazy.config.load import config_folder
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.config.yaml_format import parse_yaml, read_text
from xray_lazy.engine.metric_names import better
from xray_lazy.errors import UserError
from xray_lazy.sweeps.search_space import Parameter, is_number, read_parameters

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
VALUES = ("last", "best", "final")
SAMPLERS = ("tpe", "gp")
TOP_KEYS = ("method", "metric", "parameters", "early_terminate", "run_cap", "name", "description", "project", "entity")
METRIC_KEYS = ("name", "goal", "target", "value")
STOP_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
TRAINING_TOOL = "lazy_train.py"
# No run logs this many values: an endless series of bands may end here.
LAST_BAND = 10**7


@dataclass(frozen=True)
class Metric:
    """What a sweep optimizes.

    Attributes:
        name: as the event storage or as the trackers name it: `segm/AP`, `val/segm/AP`, `total_loss`.
        goal: "minimize" or "maximize".
        target: a value that is good enough: no further trials are started once one has reached it; None for none.
        value: which of a trial's values counts: "last", the last one that was logged; "best", the best one; "final",
            the one of the very last iteration. A key of ours, which W&B doesn't know.
    """

    name: str
    goal: str = "minimize"
    target: float | None = None
    value: str = "last"

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is strictly better."""
        return value > than if self.goal == "maximize" else value < than

    def best(self, values: list[float]) -> float:
        """The best of `values`, which are not none."""
        return max(values) if self.goal == "maximize" else min(values)


@dataclass(frozen=True)
class EarlyTerminate:
    """Hyperband as W&B has it. Its iterations count the values of the metric that a trial has logged.

    Attributes:
        bands: numbers of values after which a trial is compared with the others, ascending.
        eta: the best 1/eta of the trials go on at each band.
        strict: compare the value at the band itself; else the best until then.
    """

    bands: tuple[int, ...]
    eta: float = 3.0
    strict: bool = False


@dataclass(frozen=True)
class Sweep:
    """A sweep file, checked.

    Attributes:
        name: of the file, where the file gives none.
        parameters: by config key, in the order of the file; nested ones have dotted keys.
        run_cap: trials over all workers; None for no bound.
        sampler, seed: of the embedded backend, from the group `optuna`, a key of ours.
        document: the file's content as plain data, with our own keys.
    """

    name: str
    method: str
    parameters: dict[str, Parameter]
    metric: Metric
    early_terminate: EarlyTerminate | None = None
    run_cap: int | None = None
    description: str = ""
    project: str | None = None
    entity: str | None = None
    sampler: str = "tpe"
    seed: int = 0
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def varied(self) -> dict[str, Parameter]:
        """The parameters that take more than one value."""
        return {key: parameter for key, parameter in self.parameters.items() if not parameter.is_constant}

    def wandb_document(self) -> dict[str, Any]:
        """The document without the keys that W&B doesn't know."""
        document = copy.deepcopy(self.document)
        document.pop("optuna", None)
        document["metric"].pop("value", None)
        return document


def read_sweep(path: str | os.PathLike) -> Sweep:
    """The sweep that a file describes.

    Raises:
        UserError: there is no such file, or something in it is wrong; all its faults are reported together.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise UserError(f"there is no sweep file {path}", _near_files(path))
    document = parse_yaml(read_text(path), str(path))
    if not isinstance(document, dict):
        raise UserError(f"{path} is no sweep", "it is a mapping with method, metric and parameters")
    return parse_sweep(document, path.stem)


def parse_sweep(document: dict[str, Any], name: str) -> Sweep:
    """The sweep in a file's content; `name` is for one that gives none.

    Raises:
        UserError: something is wrong; all faults are reported together.
    """
    method = document.get("method")
    parameters, faults = read_parameters(document.get("parameters"), method)
    reader = _Reader(document, faults)
    reader.check_keys("", document, (*TOP_KEYS, "optuna", "program", "command"))
    reader.choice("method", document, METHODS)
    metric = reader.metric()
    early_terminate = reader.early_terminate() if "early_terminate" in document else None
    options = reader.group("optuna", ("sampler", "seed"))
    sampler, seed = reader.choice("sampler", options, SAMPLERS, "optuna."), options.get("seed", 0)
    if method == "grid" and "sampler" in options:
        faults.append(Fault("optuna.sampler", "a grid has no sampler", "leave it out, or write method: bayes"))
    if not _is_whole(seed, 0):
        faults.append(Fault("optuna.seed", f"it is {seed!r}", "write a whole number of 0 or more"))
    run_cap = document.get("run_cap")
    if run_cap is not None and not _is_whole(run_cap, 1):
        faults.append(Fault("run_cap", f"it is {run_cap!r}", "write a number of trials"))
    faults += _command_faults(document)
    _raise_faults(faults, name)
    return Sweep(
        name=str(document.get("name") or name),
        method=method,
        parameters=parameters,
        metric=metric,
        early_terminate=early_terminate,
        run_cap=run_cap,
        description=str(document.get("description") or ""),
        project=document.get("project"),
        entity=document.get("entity"),
        sampler=sampler,
        seed=seed,
        document=document,
    )


_METRIC_FIX = "write metric: {name: segm/AP, goal: maximize}"


class _Reader:
    """Reads groups of a document and collects what is wrong with them."""

    def __init__(self, document: dict, faults: list[Fault]):
        self.document, self.faults = document, faults

    def check_keys(self, place: str, group: dict, known: tuple[str, ...]) -> None:
        for key in group:
            if key not in known:
                fix = did_you_mean(nearest(str(key), known)) or f"there are {', '.join(known)}"
                self.faults.append(Fault(f"{place}{key}", "a sweep has no such key", fix))

    def group(self, name: str, known: tuple[str, ...]) -> dict:
        group = self.document.get(name, {})
        if not isinstance(group, dict):
            self.faults.append(Fault(name, f"{group!r} is no group of keys", f"it has {', '.join(known)}"))
            return {}
        self.check_keys(f"{name}.", group, known)
        return group

    def choice(self, key: str, group: dict, allowed: tuple[str, ...], place: str = "") -> str:
        """One of `allowed`; the first where the key may be left out and is."""
        if key not in group and place:
            return allowed[0]
        value = group.get(key)
        if value not in allowed:
            message = f"it is {value!r}" if key in group else "it is missing"
            self.faults.append(Fault(f"{place}{key}", message, f"it may be {', '.join(allowed)}"))
        return value

    def metric(self) -> Metric:
        group = self.group("metric", METRIC_KEYS)
        name, target = group.get("name"), group.get("target")
        if not isinstance(name, str) or not name:
            self.faults.append(Fault("metric.name", "nothing says what makes a trial better than another", _METRIC_FIX))
        if target is not None and not is_number(target):
            self.faults.append(
                Fault("metric.target", f"it is {target!r}, not a number", "write a number, or leave it out")
            )
        goal = self.choice("goal", group, GOALS, "metric.")
        right = better(name) if isinstance(name, str) else None
        if right and goal in GOALS and not goal.startswith(right):
            message = (
                f"{'it is' if 'goal' in group else 'without a word it is'} {goal}, which looks for the worst {name}"
            )
            self.faults.append(Fault("metric.goal", message, f"write goal: {right}imize"))
        return Metric(name, goal, target, self.choice("value", group, VALUES, "metric."))

    def early_terminate(self) -> EarlyTerminate:
        group, before = self.group("early_terminate", STOP_KEYS), len(self.faults)
        self.choice("type", group, ("hyperband",), "early_terminate.")
        for key in ("min_iter", "max_iter", "s"):
            if key in group and not _is_whole(group[key], 1):
                self.faults.append(Fault(f"early_terminate.{key}", f"it is {group[key]!r}", "write a whole number"))
        eta, strict = group.get("eta", 3), group.get("strict", False)
        if not is_number(eta) or eta <= 1:
            self.faults.append(Fault("early_terminate.eta", f"it is {eta!r}", "write a number above 1, such as 3"))
        if not isinstance(strict, bool):
            self.faults.append(Fault("early_terminate.strict", f"it is {strict!r}", "write true or false"))
        if "min_iter" not in group and not ("max_iter" in group and "s" in group):
            fix = "give min_iter, or max_iter together with s"
            self.faults.append(Fault("early_terminate", "nothing says when trials are compared", fix))
        if {"min_iter", "max_iter", "s"} <= group.keys():
            fix = "leave it out, or s: bands start at min_iter, or end at max_iter with s of them"
            self.faults.append(Fault("early_terminate.min_iter", "it plays no part beside max_iter and s", fix))
        if len(self.faults) > before:
            return EarlyTerminate(())
        bands = _bands(group, eta)
        if not bands:
            fix = "raise max_iter or lower eta"
            self.faults.append(Fault("early_terminate", "there is no iteration at which trials are compared", fix))
        return EarlyTerminate(bands, eta, strict)


def _bands(group: dict, eta: float) -> tuple[int, ...]:
    """max_iter / eta, max_iter / eta^2, ... of which there are s; or min_iter, min_iter * eta, ... up to max_iter."""
    if "max_iter" in group and "s" in group:
        bands = {int(group["max_iter"] / eta**number) for number in range(1, group["s"] + 1)}
    else:
        last = min(group.get("max_iter", LAST_BAND), LAST_BAND)
        bands = {int(group["min_iter"] * eta**number) for number in range(math.ceil(math.log(LAST_BAND, eta)))}
        bands = {band for band in bands if band <= last}
    return tuple(sorted(bands - {0}))


def _command_faults(document: dict) -> Iterator[Fault]:
    """W&B's files say what to start; here it is tools/lazy_train.py, which wants its values as KEY=VALUE."""
    program, command = document.get("program"), document.get("command")
    if program is not None and Path(str(program)).name != TRAINING_TOOL:
        message = f"it is {program}, but each trial is a run of tools/{TRAINING_TOOL}"
        yield Fault(
            "program", message, f"leave it out; `wandb agent` without tools/sweep.py needs tools/{TRAINING_TOOL}"
        )
    if command is not None and not (isinstance(command, list) and "${args_no_hyphens}" in command):
        message = f"overrides of tools/{TRAINING_TOOL} have no dashes, and it has no ${{args_no_hyphens}}"
        yield Fault("command", message, "leave it out: tools/sweep.py writes the command of a trial")


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _raise_faults(faults: list[Fault], name: str) -> None:
    try:
        raise_faults(faults)
    except UserError as error:
        raise UserError(error.message.replace("the config has", f"the sweep {name} has"), error.fix) from None


def _near_files(path: Path) -> str:
    """Sweeps of a near name there, or those that come with this package."""
    there = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    near = nearest(path.name, [file.name for file in there])
    if near:
        return did_you_mean([str(path.parent / name) for name in near])
    ready = sorted((config_folder() / "sweeps").glob("*.yaml"))
    same = [file for file in ready if file.stem == path.stem] or ready
    return did_you_mean([os.path.relpath(file) for file in same])
