"""Which processes work on a sweep: a file for each, which it touches while it lives."""

import os
import secrets
import socket
from pathlib import Path

from xray_lazy.utils.processes import process_start

# Shared file systems show a file's new time up to a minute late.
STALE_SECONDS = 180


class Worker:
    """This process as a worker of the sweep in `folder`.

    Attributes:
        name: "host:process id:token".
    """

    def __init__(self, folder: Path):
        self._folder = workers_folder(folder)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.beat()

    def beat(self) -> None:
        """Say that this worker lives."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / self.name).touch()

    def close(self) -> None:
        """Sign off."""
        (self._folder / self.name).unlink(missing_ok=True)


def is_alive(folder: Path, name: str) -> bool:
    """Whether the worker `name` of the sweep in `folder` lives, seen from any machine that has the folder."""
    path = workers_folder(folder) / name
    try:
        age = _now(folder) - path.stat().st_mtime
    except FileNotFoundError:
        return False
    host, pid, _ = name.split(":")
    if host == socket.gethostname() and process_start(int(pid)) is None:
        return False
    return age < STALE_SECONDS


def workers_folder(folder: Path) -> Path:
    """Where the workers' files are."""
    return folder / "workers"


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    probe = workers_folder(folder) / f".now-{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
