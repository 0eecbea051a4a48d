"""`failure.json`: why a run failed, as the process of it that failed first tells."""

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from xray_lazy.errors import EXIT_FAILURE, RunFailure, UserError
from xray_lazy.utils.atomic_file import atomic_writer, utf8
from xray_lazy.utils.interruption import describe, ending_signal
from xray_lazy.utils.out_of_memory import memory_failure

FAILURE_FILE = "failure.json"
# In the environment of a process that is looked after: the file, for what fails before the run has its folder, and what
# tells this start from an earlier one.
PLACE, START = "XRAY_LAZY_FAILURE", "XRAY_LAZY_START"
RUN_ID = "${WANDB_RUN_ID}"  # in the path: W&B's agents start trials, each with its own

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
_UNUSABLE_PATH = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS}
_UNUSABLE_PATH |= {errno.ENAMETOOLONG, errno.ELOOP, errno.EBUSY}  # busy: something is mounted there


def _rank() -> int:
    """As torchrun and srun number this process; 0 where the variable has no number, which must hide no error."""
    number = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or ""
    return int(number) if number.isdecimal() else 0


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(frozen=True)
class Failure:
    """Why a process failed.

    Attributes:
        message, fix: as they are printed; `fix` may be empty.
        exit_code: negative for the signal that killed the process.
        exception: its type; empty where no exception was seen.
        traceback: of the exception.
        rank, host: of the process.
        start: of the job, where the run is one.
        time: ISO 8601.
    """

    message: str
    fix: str = ""
    exit_code: int = EXIT_FAILURE
    exception: str = ""
    traceback: str = ""
    rank: int = field(default_factory=_rank)
    host: str = field(default_factory=socket.gethostname)
    start: str = field(default_factory=lambda: os.environ.get(START, ""))
    time: str = field(default_factory=_now)

    @classmethod
    def of(cls, error: BaseException, rank: int | None = None) -> "Failure":
        """What an error says, also one that nobody has foreseen."""
        message, fix, code = _explained(error)
        trace = "".join(traceback.format_exception(error))
        return cls(message, fix, code, type(error).__qualname__, trace, _rank() if rank is None else rank)

    @property
    def headline(self) -> str:
        """The message's first line."""
        return self.message.partition("\n")[0]

    def error(self) -> UserError:
        """As an exception again, with the traceback as its note."""
        kind = UserError if self.exit_code == UserError.exit_code else RunFailure
        error = kind(self.message, self.fix)
        error.add_note(self.traceback)
        return error

    def write(self, path: str | os.PathLike) -> bool:
        """Write it, unless a process of this start has failed before; returns whether it is written."""
        there = read_failure(path)
        if there is not None and there.start != self.start:
            Path(path).unlink(missing_ok=True)
        try:
            with atomic_writer(path, replace=False) as stream:
                stream.write(utf8(json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"))
        except FileExistsError:
            return False
        return True

    def tell(self) -> None:
        """Write it into the run's folder, and where the environment says; without either the console alone tells."""
        global _folder
        given = os.environ.get(PLACE, "").replace(RUN_ID, os.environ.get("WANDB_RUN_ID", ""))
        places = {os.path.abspath(place) for place in (_folder and _folder / FAILURE_FILE, given) if place}
        _folder = None
        for place in places:
            with contextlib.suppress(OSError):  # such as the full disk that this is about
                self.write(place)


_folder: Path | None = None


def tell_failures_in(folder: str | os.PathLike | None) -> None:
    """What fails in this process from here on is told in that folder, whose run it is; None for no run's."""
    global _folder
    _folder = Path(folder) if folder else None


def read_failure(path: str | os.PathLike) -> Failure | None:
    """Read a failure's file; None where nothing has failed, or the file is damaged."""
    try:
        content = json.loads(Path(path).read_bytes())
        names = {entry.name for entry in dataclasses.fields(Failure)}
        return Failure(**{name: value for name, value in content.items() if name in names})
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _explained(error: BaseException) -> tuple[str, str, int]:
    """Message, fix and exit code."""
    if number := ending_signal(error):
        return describe(number), "", 128 + number
    if isinstance(error, UserError):
        return error.message, error.fix, error.exit_code
    if failure := memory_failure(error):
        return failure.message, failure.fix, failure.exit_code
    if isinstance(error, SystemExit):
        fix = "raise an error where something is wrong; what a module does as a script: `if __name__ == '__main__':`"
        message = f"{_where_raised(error)} leaves Python before the work is done: SystemExit: {error.code}"
        return message, fix, EXIT_FAILURE
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        fix = "free some space; what was complete before is untouched"
        return f"the disk is full: {error}", fix, EXIT_FAILURE
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error.strerror):  # of `tempfile`
        fix = "set TMPDIR to a folder that you may write to, on a disk with free space"
        return f"no folder for temporary files can be used: {error.strerror}", fix, UserError.exit_code
    if refused := _refused_path(error):
        return refused, "give another path, or mend its rights; --debug shows where it happened", UserError.exit_code
    fix = "run again with --debug to see where it happened"
    return f"{type(error).__name__}: {error}", fix, EXIT_FAILURE


def _where_raised(error: BaseException) -> str:
    """File and line."""
    frame, line = raising_frame(error)
    return f"{frame.f_code.co_filename}, line {line}"


def raising_frame(error: BaseException) -> tuple[FrameType, int]:
    """Of an error that was caught: the frame that raised it, and its line. W&B puts a `sys.exit` of its own in place
    of Python's, which is not what raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    others = [entry for entry in frames if not entry[0].f_globals.get("__name__", "").startswith("wandb.")]
    return (others or frames)[-1]


def _refused_path(error: BaseException) -> str:
    """What the system says of a path that can't be used; empty where the error is another one."""
    # of a renaming the second name is the person's, the first that of the temporary file
    path = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if isinstance(error, OSError) and error.errno in _UNUSABLE_PATH and isinstance(path, (str, os.PathLike)):
        return f"can't use {os.fspath(path)}: {error.strerror}"
    return ""


@contextlib.contextmanager
def refused_paths_are_failures() -> Iterator[None]:
    """A path that can't be used is a failure of the run that is at work: it could be used when the run began."""
    try:
        yield
    except OSError as error:
        if not (refused := _refused_path(error)):
            raise
        fix = "mend its rights, or remove what lies in its place, then go on with --resume"
        raise RunFailure(refused, fix) from error
