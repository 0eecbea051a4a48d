"""Processes of this machine: whether one lives and is still the same, and what files it has open."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
# loaded here: between fork and exec nothing may be imported
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """As `preexec_fn` of a program: SIGTERM when the thread that started it ends, be it by kill -9. On Linux."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def process_start(pid: int) -> str | None:
    """When a process began, which tells it from a later one of its number; None where it is gone."""
    try:
        state, *numbers = _status(Path(f"/proc/{pid}"))
        return None if state in "ZX" else numbers[18]
    except OSError:
        return _exists(pid)


def open_files(process: Path) -> Iterator[str]:
    """The files that a process has open, by its folder in /proc; none of one that ends, or of this one's children."""
    try:
        _, parent, *_ = _status(process)
        if int(parent) != os.getpid():
            yield from map(os.readlink, (process / "fd").iterdir())
    except OSError:  # it has ended, or is another person's
        return


def _status(process: Path) -> list[str]:
    """State, parent, ... of a process by its folder in /proc: what follows its name, which may have spaces."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def _exists(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:  # not on Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another person's
        pass
    return "at some time"
