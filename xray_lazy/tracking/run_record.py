"""`run.json`: what was run, with which code, versions and devices, and every start of it."""

import dataclasses
import datetime
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy import env
from xray_lazy.atomic_file import write_json
from xray_lazy.errors import UserError

RUN_FILE = "run.json"


@dataclass
class RunRecord:
    """One start of a run, and the list of all its starts, this one last.

    Attributes:
        command: as typed, ready for a shell.
        overrides: the config overrides of the command.
        config: resolved; dicts, lists and plain values only.
        git: `{"commit", "branch", "dirty"}` of the checkout that the run was started from; None without one.
        versions: by package; None where it isn't installed.
        start_time: ISO 8601 with the time zone.
        wandb_id: of the W&B run; kept when the run resumes.
        start_iteration: the first iteration of this start.
        resumed: whether it continues what is in the output folder.
    """

    command: str
    overrides: list[str]
    config: dict[str, Any]
    output_dir: str
    seed: int | None
    world_size: int
    git: dict[str, Any] | None
    versions: dict[str, str | None]
    devices: list[str]
    host: str
    start_time: str
    wandb_id: str | None = None
    start_iteration: int = 0
    resumed: bool = False
    starts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def collect(
        cls, cfg: DictConfig, overrides: Sequence[str] = (), world_size: int = 1, resumed: bool = False
    ) -> "RunRecord":
        """What can be known before training; of a resumed run also its earlier starts and W&B id.

        Raises:
            UserError: the run.json of the resumed run can't be read.
        """
        output_dir = str(cfg.train.output_dir)
        earlier_file = Path(output_dir) / RUN_FILE
        earlier = cls.read(earlier_file) if resumed and earlier_file.exists() else None
        return cls(
            command=shlex.join(sys.argv),
            overrides=list(overrides),
            config=_plain(OmegaConf.to_container(cfg, resolve=True)),
            output_dir=output_dir,
            seed=cfg.train.get("seed"),
            world_size=world_size,
            git=git_state(Path.cwd()),
            versions=env.versions(),
            devices=env.devices(),
            host=socket.gethostname(),
            start_time=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            wandb_id=earlier.wandb_id if earlier else None,
            resumed=resumed,
            starts=earlier.starts if earlier else [],
        )

    def write(self, path: str | os.PathLike) -> None:
        """Write the record; this start is the last of its `starts`."""
        content = dataclasses.asdict(self)
        earlier = [start for start in self.starts if start["start_time"] != self.start_time]
        write_json(path, {**content, "starts": [*earlier, self._this_start()]}, indent=2)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "RunRecord":
        """Read a record; keys of a later version are ignored.

        Raises:
            UserError: there is no such file, or it is not a run's record.
        """
        try:
            content = json.loads(Path(path).read_bytes())
            names = {f.name for f in dataclasses.fields(cls)}
            return cls(**{name: value for name, value in content.items() if name in names})
        except FileNotFoundError:
            raise UserError(f"there is no run record {path}", "give the output folder of a training run") from None
        except (ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{path} is not a run record: {error}", "move it away; only its history is lost") from None

    def _this_start(self) -> dict[str, Any]:
        names = ("start_time", "start_iteration", "command", "host", "world_size", "devices", "git")
        return {name: getattr(self, name) for name in names}


def git_state(folder: str | os.PathLike) -> dict[str, Any] | None:
    """Commit, branch (None when detached) and whether tracked files differ from it, of the checkout around `folder`.

    None where there is no checkout, no git, or git doesn't answer within 10 s.
    """
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    # without optional locks: many runs may ask at once, and the checkout may be read-only
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.splitlines()
    header = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit, branch = header.get("branch.oid"), header.get("branch.head")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(not line.startswith("#") for line in lines),
    }


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: classes and functions by their dotted names, whatever else is odd by its `str`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
