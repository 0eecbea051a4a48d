"""A lock that outlives no process, on any file system that machines share."""

import os
from pathlib import Path

from filelock import SoftFileLease, Timeout


class Lease:
    """The lock `<path>.lock`, for workers on any machines that share the folder.

    One of a dead process of this machine blocks nobody, but where filelock can't tell: where its process was killed
    before it wrote its number into it, or the file system is a network's. That, as one of another machine, counts as
    left once it has not been renewed for a while.

    Args:
        path: of what is locked.
        seconds: without a renewal, until the lock counts as left.
    """

    def __init__(self, path: Path, seconds: float):
        self._lock, self._seconds = SoftFileLease(f"{path.resolve()}.lock", lease_duration=seconds), seconds

    def acquire(self) -> None:
        """Wait for the lock and take it."""
        while True:
            before = self._state()
            try:
                self._lock.acquire(timeout=self._seconds)
                return
            except Timeout:
                if before is not None and before == self._state():
                    self._lock.break_lock()

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _state(self) -> tuple[int, ...] | None:
        """What each owner and each renewal changes."""
        try:
            with open(self._lock.lock_file, "rb") as file:  # a network's file system looks at the file itself
                status = os.fstat(file.fileno())
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns
