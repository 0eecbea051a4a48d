"""Which checkpoints of a run wait for evaluation, kept in files that training and evaluators on any machine share."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xray_lazy.engine.output_folder.claims import Claims
from xray_lazy.run_folder import FINAL, RunFolder, iteration_of
from xray_lazy.utils.atomic_file import write_json

COMPLETED, CLOSED = "completed.json", "closed"
LAST = 1 << 62  # as an iteration: after all others


@dataclass(frozen=True)
class FileVersion:
    """Tells a checkpoint from another one of the same name, which a run writes that does a part of it again."""

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileVersion":
        """Raises FileNotFoundError."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass
class Result:
    """What became of a checkpoint.

    Attributes:
        name: of the checkpoint, without its ending.
        file: that was evaluated.
        iteration: the last one that was done; of a file that can't be read, by its name.
        metrics: by name, e.g. `bbox/AP`; empty where the file can't be read.
        error: why it can't be read.
        seconds: that the evaluation took.
        is_published: the writers have it, and hooks have judged it.
        hooks: states of these hooks afterwards, by name.
    """

    name: str
    file: FileVersion
    iteration: int
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0.0
    is_published: bool = False
    hooks: Mapping[str, Any] = field(default_factory=dict)


class CheckpointQueue:
    """The folder `evaluator/` of a run.

    It has a second name of each checkpoint that waits (a hard link, which takes no space, or a copy where the disk has
    no links), so that training may delete its own; `<checkpoint>.json` for each one that is evaluated; and claims.

    Args:
        run_folder: the run's output folder.
    """

    def __init__(self, run_folder: str | os.PathLike):
        self.run_folder = RunFolder(run_folder)
        self.folder = self.run_folder.evaluator
        self.claims = Claims(self.folder)

    def open(self) -> None:
        """From now on, training hands over the checkpoints that it would delete."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CLOSED).unlink(missing_ok=True)

    def close(self) -> None:
        """Nobody is going to evaluate what comes."""
        (self.folder / CLOSED).touch()

    def is_open(self) -> bool:
        """Whether checkpoints of this run are evaluated beside its training; a folder that someone makes is open."""
        return self.folder.is_dir() and not (self.folder / CLOSED).exists()

    def hold_new(self) -> None:
        """Give a second name to every checkpoint of the run that is neither evaluated nor held."""
        for path in (*self.run_folder.periodic(), self.run_folder.final):
            self.hold(path)
        for result in self.results():  # two processes may hold a file, one after the other has done with it
            if result.is_published or result.error:
                self._release(result)

    def hold(self, path: Path) -> None:
        """Give a second name to a checkpoint, unless it is evaluated, held, or deleted in this very moment."""
        try:
            version = FileVersion.of(path)
            result = self.result(path.stem)
            if result and result.file == version:
                return
            held = self.held(path.stem)
            if not (held.exists() and FileVersion.of(held) == version):
                _add_name(path, held)
            if result:  # of a file that a part of the run, done again, has replaced
                self._result_file(path.stem).unlink(missing_ok=True)
        except FileNotFoundError:
            return

    def held(self, name: str) -> Path:
        """The file of a checkpoint that waits, or whose result is not yet published."""
        return self.folder / f"{name}.pth"

    def waiting(self) -> list[str]:
        """The names of checkpoints that are not evaluated, also those that someone is at; in the order of training."""
        names = [path.stem for path in self.folder.glob("model_*.pth")]
        return sorted((name for name in names if self.result(name) is None), key=iteration_by_name)

    def add(self, result: Result) -> None:
        """Keep the result of an evaluation."""
        self._write(result)
        if result.error:
            self._release(result)

    def set_published(self, result: Result) -> None:
        """The result is in the run's curves; nobody needs the checkpoint any more."""
        result.is_published = True
        self._write(result)
        self._release(result)

    def result(self, name: str) -> Result | None:
        """What became of a checkpoint; None where it waits, also because its result can't be read any more."""
        try:
            content = json.loads(self._result_file(name).read_bytes())
            return Result(**{**content, "file": FileVersion(**content["file"])})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def results(self) -> list[Result]:
        """All results, in the order of training."""
        results = [self.result(path.stem) for path in self.folder.glob("model_*.json")]
        return sorted((result for result in results if result), key=lambda r: (r.iteration, r.name == FINAL))

    def publishable(self) -> list[Result]:
        """Results that are not yet published, before which no checkpoint waits."""
        first_waiting = min(map(iteration_by_name, self.waiting()), default=LAST + 1)
        unpublished = (result for result in self.results() if not (result.is_published or result.error))
        return [result for result in unpublished if iteration_by_name(result.name) < first_waiting]

    def read_completed(self) -> list | None:
        """What `write_completed` kept: which results have gone to writers that wait for the end of training."""
        file = self.folder / COMPLETED
        return json.loads(file.read_bytes()) if file.exists() else None

    def write_completed(self, given: list) -> None:
        write_json(self.folder / COMPLETED, given)

    def _result_file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _release(self, result: Result) -> None:
        held = self.held(result.name)
        if held.exists() and FileVersion.of(held) == result.file:
            held.unlink(missing_ok=True)

    def _write(self, result: Result) -> None:
        write_json(self._result_file(result.name), asdict(result))


def iteration_by_name(name: str) -> int:
    """The iteration in a checkpoint's name; for `model_final` one that comes after all."""
    iteration = iteration_of(name)
    return LAST if iteration is None else iteration


def keep_for_evaluator(path: Path) -> None:
    """Called before a run deletes one of its checkpoints: it stays in `evaluator/` where that folder awaits it."""
    queue = CheckpointQueue(path.parent)
    if queue.is_open():
        queue.hold(path)


def _add_name(path: Path, name: Path) -> None:
    """Let `name` be a second name of the file `path`, or a copy of it with its time; whole from the first moment on."""
    with tempfile.TemporaryDirectory(prefix=f".{name.name}.", dir=name.parent) as folder:
        temporary = Path(folder, name.name)
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise
            shutil.copy2(path, temporary)
        os.replace(temporary, name)
