"""Cluster profiles: what a job asks for, from a small YAML file and the command line."""

import argparse
import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xray_lazy.command_line import path
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.errors import UserError

EXECUTORS = ("slurm", "local", "debug")
TIME_FIX = "write it as SLURM does: 90 (minutes), 24:00:00 (hours:minutes:seconds) or 2-12:00:00 (days-...)"


def _help(text: str, metavar: str = "TEXT") -> dict[str, str]:
    """What `--help` shows for a key."""
    return {"help": text, "metavar": metavar}


@dataclass(frozen=True)
class Profile:
    """What a job asks for; each field is a key of the YAML file and a flag of the command line."""

    executor: str = field(
        default="slurm", metadata=_help("slurm, local (this machine, in the background) or debug (here)", "NAME")
    )
    nodes: int = field(default=1, metadata=_help("machines of a job", "N"))
    gpus_per_node: int = field(default=0, metadata=_help("GPUs of each node, with one process for each", "N"))
    tasks_per_node: int = field(default=1, metadata=_help("processes of each node in a job without GPUs", "N"))
    cpus_per_gpu: int = field(default=0, metadata=_help("CPU cores for each GPU's process and its data loaders", "N"))
    cpus_per_task: int = field(default=0, metadata=_help("CPU cores for each process of a job without GPUs", "N"))
    gpu_type: str = field(default="", metadata=_help("as SLURM names it, where a partition has several: a100"))
    memory: str = field(default="", metadata=_help("of each node: 64GB; empty takes the cluster's default"))
    partition: str = field(default="", metadata=_help("empty takes the cluster's default"))
    account: str = field(default="", metadata=_help("who pays"))
    qos: str = field(default="", metadata=_help("quality of service"))
    constraint: str = field(default="", metadata=_help("features that nodes must have"))
    time: str = field(default="", metadata=_help("limit of one start: 90 (minutes), 24:00:00 or 2-12:00:00", "TIME"))
    signal_delay: int = field(
        default=120, metadata=_help("seconds before the time limit at which training saves and requeues", "SECONDS")
    )
    max_timeouts: int = field(
        default=10, metadata=_help("how often a job that reaches its time limit is requeued", "N")
    )
    max_parallel: int = field(
        default=0, metadata=_help("jobs of an array that run at once; 0 is as many as the cluster lets", "N")
    )
    setup: list[str] = field(
        default_factory=list,
        metadata=_help("a shell line before Python: module load cuda, export NAME=VALUE, ...", "LINE"),
    )
    container: str = field(default="", metadata=_help("an image that Apptainer runs Python in", "IMAGE"))
    python: str = field(
        default="", metadata=_help("the Python of the compute nodes; empty takes the one that submits", "COMMAND")
    )
    srun_args: list[str] = field(
        default_factory=list, metadata=_help("an argument for srun: --container-image=... for Pyxis", "ARG")
    )
    sbatch: dict[str, str] = field(
        default_factory=dict, metadata=_help("any other option of sbatch: reservation=NAME", "NAME=VALUE")
    )

    @property
    def tasks_on_a_node(self) -> int:
        return self.gpus_per_node or self.tasks_per_node

    @property
    def world_size(self) -> int:
        """Processes of a job."""
        return self.nodes * self.tasks_on_a_node

    @property
    def cores_per_task(self) -> int:
        """CPU cores of each process; 0 takes the cluster's default."""
        return self.cpus_per_gpu if self.gpus_per_node else self.cpus_per_task

    @property
    def minutes(self) -> int | None:
        """The time limit in minutes, None without one."""
        return parse_time(self.time) if self.time else None


def load_profile(path: str | Path | None, flags: Mapping[str, Any]) -> Profile:
    """The profile in a YAML file, with what the command line says in place of what it says.

    Args:
        path: the file; None for a job that the command line alone describes, `--executor local` unless it says so.
        flags: values by key, None where the command line says nothing; a mapping's entries are added to the file's.

    Raises:
        UserError: there is no such file, it is not YAML, it has an unknown key (near ones are given) or a wrong value.
    """
    values = _read(Path(path)) if path else {"executor": "local"}
    return _check(Profile(**_merge(values, flags)))


def change_profile(profile: Profile, flags: Mapping[str, Any]) -> Profile:
    """`profile` with the values of flags that are given, which are not None.

    Raises:
        UserError: see `load_profile`.
    """
    return _check(Profile(**_merge(dataclasses.asdict(profile), flags)))


def add_profile_flags(parser: argparse.ArgumentParser, title: str = "cluster") -> None:
    """Add `--cluster FILE` and one flag for each key of a profile, under a title in the help."""
    group = parser.add_argument_group(title)
    group.add_argument("--cluster", type=path, metavar="FILE", help="a cluster profile: slurm/a100.yaml")
    for entry in dataclasses.fields(Profile):
        flag = "--" + entry.name.replace("_", "-")
        several = entry.type in (list[str], dict[str, str])
        group.add_argument(
            flag,
            metavar=entry.metadata["metavar"],
            help=entry.metadata["help"] + (" (may be given several times)" if several else ""),
            **({"action": "append"} if several else {"type": int} if entry.type is int else {}),
        )


def given_flags(options: argparse.Namespace) -> dict[str, Any]:
    """What a command line with `add_profile_flags` says, None for a key that it doesn't mention."""
    flags = {entry.name: getattr(options, entry.name) for entry in dataclasses.fields(Profile)}
    if flags["sbatch"] is not None:
        flags["sbatch"] = dict(_name_and_value(text) for text in flags["sbatch"])
    return flags


def parse_time(text: str) -> int:
    """Minutes, rounded up, of a time as SLURM writes it: `90`, `90:00`, `24:00:00`, `2-12`, `2-12:00`, `2-12:00:00`.

    Raises:
        UserError: it is none of these.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not match:
        raise UserError(f"{text!r} is not a time", TIME_FIX)
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    total = math.ceil(((int(days or 0) * 24 + hours) * 60 + minutes) + seconds / 60)
    if not total:
        raise UserError(f"{text!r} is no time at all", TIME_FIX)
    return total


def _merge(values: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in flags.items() if value is not None}
    added = {key: {**values.get(key, {}), **value} for key, value in given.items() if isinstance(value, dict)}
    return {**values, **given, **added}


def _read(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        there = sorted(file.name for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        near = [str(path.parent / name) for name in nearest(path.name, there)]
        raise UserError(f"there is no cluster profile {path}", did_you_mean(near) or "slurm/ has examples")
    try:
        # all as text: YAML would read 24:00:00 as a number to base 60
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}", "correct the file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a cluster profile", "write one `key: value` a line; slurm/ has examples")
    fields = {entry.name: entry for entry in dataclasses.fields(Profile)}
    for key in values:
        if key not in fields:
            near = did_you_mean(nearest(key, fields))
            raise UserError(f"{path}: unknown key {key}", near or f"there are: {', '.join(fields)}")
    return {key: _convert(f"{path}: {key}", value, fields[key].type) for key, value in values.items() if value != ""}


def _convert(where: str, value: Any, wanted: type) -> Any:
    """A value of the file, which is text, a list or a mapping, as its field has it."""
    if wanted is int:
        if not (isinstance(value, str) and re.fullmatch(r"\d+", value)):
            raise UserError(f"{where}: {value!r} is not a whole number", "write a whole number")
        return int(value)
    if wanted is str:
        if not isinstance(value, str):
            raise UserError(f"{where} is a {type(value).__name__}", "write a single value")
        return value
    if wanted == list[str]:
        value = [value] if isinstance(value, str) else value
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise UserError(f"{where} is not a list of lines", "write each on a line of its own, after a dash")
        return value
    if not (isinstance(value, dict) and all(isinstance(item, str) for item in value.values())):
        raise UserError(f"{where} is not a mapping", "write `option: value` lines below it")
    return value


def _check(profile: Profile) -> Profile:
    """What can be told to be wrong without asking the cluster."""
    if profile.executor not in EXECUTORS:
        near = did_you_mean(nearest(profile.executor, EXECUTORS))
        raise UserError(f"there is no executor {profile.executor}", near or f"it may be {', '.join(EXECUTORS)}")
    for name in ("nodes", "tasks_per_node"):
        if getattr(profile, name) < 1:
            raise UserError(f"{name} is {getattr(profile, name)}", "a job has at least 1")
    for entry in dataclasses.fields(Profile):
        if entry.type is int and getattr(profile, entry.name) < 0:
            raise UserError(f"{entry.name} is {getattr(profile, entry.name)}", "write 0 or more")
    if profile.executor == "slurm" and not profile.time:
        raise UserError("the job has no time limit", "add `time: 24:00:00` to the profile, or --time 24:00:00")
    if profile.executor != "slurm" and profile.nodes > 1:
        raise UserError(f"the executor {profile.executor} has one machine, not {profile.nodes}", "take --nodes 1")
    if profile.executor == "debug" and profile.world_size > 1:
        raise UserError("the executor debug runs one process", "take --executor local for several")
    if profile.minutes and profile.signal_delay >= profile.minutes * 60:
        raise UserError(
            f"the signal comes {profile.signal_delay} s before a time limit of {profile.minutes} minutes",
            "lower signal_delay, or raise time",
        )
    return profile


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.lstrip("-").partition("=")
    return name, value if equals else "true"
