"""`run.json`: what was run, with which code, versions and devices, and every start of it."""

import dataclasses
import datetime
import json
import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy import env
from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.tracking.code_state import code_folder, git_diff, git_state
from xray_lazy.tracking.redaction import argument_without_secrets, settings_without_secrets
from xray_lazy.utils.atomic_file import write_json, write_text


@dataclass
class RunRecord:
    """One start of a run, and the list of all its starts, this one last. In all texts `***` replaces secrets.

    Attributes:
        command: as typed, ready for a shell.
        overrides: the config overrides of the command.
        config: resolved; dicts, lists and plain values only.
        git: `{"commit", "branch", "remote", "dirty", "diff"}` of the checkout that the run was started from, for a job
            as it was submitted; `diff` is the name of the file beside run.json with what was changed in it. None
            without a checkout.
        versions: by package; None where it isn't installed.
        machine: system, processor, memory, CUDA.
        datasets: `train` and `test` with name, size, classes and the hash of each annotation file.
        learning_rates: at the schedule's 1, with `train.scale_lr` and factors of parts: `lr`, and `lr/<part>`.
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
    machine: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
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
        earlier = cls.read_earlier(output_dir) if resumed else None
        return cls(
            command=shlex.join(map(argument_without_secrets, sys.argv)),
            overrides=list(map(argument_without_secrets, overrides)),
            config=settings_without_secrets(_plain(OmegaConf.to_container(cfg, resolve=True))),
            output_dir=output_dir,
            seed=cfg.train.get("seed"),
            world_size=world_size,
            git=git_state(code_folder()),
            versions=env.versions(),
            devices=env.devices(),
            machine=env.machine(),
            host=socket.gethostname(),
            start_time=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            wandb_id=earlier.wandb_id if earlier else None,
            resumed=resumed,
            starts=earlier.starts if earlier else [],
        )

    def write_diff(self) -> Path | None:
        """Write what was changed in the code since its commit to `code.diff`; None where nothing was.

        A resumed run with other changes gets a file of its own, `code_<iteration>.diff`.
        """
        diff = git_diff(code_folder()) if self.git and self.git["dirty"] else ""
        if not diff:
            return None
        path = RunFolder(self.output_dir).diff
        if self.start_iteration and not (path.is_file() and path.read_text(encoding="utf-8") == diff):
            path = path.with_stem(f"{path.stem}_{self.start_iteration:07d}")
        write_text(path, diff)
        self.git["diff"] = path.name
        return path

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
            record = cls(**{name: value for name, value in content.items() if name in names})
            for start in record.starts:
                start["start_time"]  # by which `write` tells them apart
            return record
        except FileNotFoundError:
            raise UserError(f"there is no run record {path}", "give the output folder of a training run") from None
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise UserError(f"{path} is not a run record: {error}", "move it away; only its history is lost") from None

    @classmethod
    def read_earlier(cls, output_dir: str | os.PathLike) -> "RunRecord | None":
        """The record of the run in a folder, if there is one; raises as `read`."""
        path = RunFolder(output_dir).record
        return cls.read(path) if path.exists() else None

    def _this_start(self) -> dict[str, Any]:
        names = ("start_time", "start_iteration", "command", "host", "world_size", "devices", "git")
        names += ("learning_rates",)
        return {name: getattr(self, name) for name in names}


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
