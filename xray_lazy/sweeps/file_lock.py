"""A lock between workers on any machines that share a folder: a file that only one of them can make."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages.journal import JournalFileOpenLock

from xray_lazy.sweeps.workers import process_exists


class FileLock(JournalFileOpenLock):
    """Optuna's lock `<path>.lock`, which says whose it is, so that a killed process of this machine blocks nobody.

    Args:
        path: of what is locked.
        patience: seconds until a lock of another machine counts as left by a dead process.
    """

    def __init__(self, path: Path, patience: int = 30):
        path = path.resolve()
        self._file = path.with_name(f"{path.name}.lock")
        super().__init__(str(path), grace_period=patience)

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        self._break_if_dead()
        super().acquire()
        self._file.write_text(_owner())
        return True

    def _break_if_dead(self) -> None:
        owner = _read(self._file)
        host, _, pid = owner.partition(":")
        if host != socket.gethostname() or not pid.isdigit() or process_exists(int(pid)):
            return
        aside = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
        try:
            self._file.rename(aside)
            if _read(aside) != owner:
                os.link(aside, self._file)  # another one has broken it, too, and taken it meanwhile
        except FileNotFoundError:
            return
        aside.unlink()


@contextmanager
def locked(path: Path, patience: int) -> Iterator[None]:
    """Hold the lock `<path>.lock` for the time of the block."""
    lock = FileLock(path, patience)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
