"""Claims of processes, on any machines that share a folder: what one has claimed, no other one does."""

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

HEARTBEAT_SECONDS = 15.0
# More than a minute: so long may NFS tell of an old time stamp.
STALE_SECONDS = 180.0


class Claims:
    """The claims in a folder, as one process sees them.

    A claim is the file `<name>.claim<n>`, which only one process can create; it tells host, process and time, and its
    owner renews its time stamp while it lives. Whoever finds the file of a dead owner takes it over as the next `n`,
    which again only one can create. Dead is a process of this machine that is gone, and any whose time stamp has not
    changed for `stale_seconds`, by the clock of the one who looks.

    Args:
        folder: of all processes' claims.
        heartbeat_seconds: between two renewals.
        stale_seconds: without a renewal, much more than `heartbeat_seconds`.
    """

    def __init__(
        self, folder: Path, heartbeat_seconds: float = HEARTBEAT_SECONDS, stale_seconds: float = STALE_SECONDS
    ):
        self._folder, self._heartbeat, self._stale = folder, heartbeat_seconds, stale_seconds
        self._seen: dict[Path, tuple[int, float]] = {}  # time stamp, and since when it is known

    def take(self, name: str) -> "Claim | None":
        """Claim `name`; None where a living process has it."""
        newest = self._newest(name)
        if newest is not None and self._is_alive(newest):
            return None
        path = self._folder / f"{name}.claim{_number(newest) + 1 if newest else 1}"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return None
        with os.fdopen(descriptor, "w") as stream:
            json.dump(_this_process(), stream)
        return Claim(path, self._heartbeat)

    def is_taken(self, name: str) -> bool:
        """Whether a living process has claimed `name`."""
        newest = self._newest(name)
        return newest is not None and self._is_alive(newest)

    def _newest(self, name: str) -> Path | None:
        return max(self._folder.glob(f"{name}.claim*"), key=_number, default=None)

    def _is_alive(self, path: Path) -> bool:
        try:
            stamp = path.stat().st_mtime_ns
            owner = json.loads(path.read_bytes() or b"{}")
        except FileNotFoundError:
            return False
        except ValueError:  # its owner is still writing it
            owner = {}
        if owner.get("machine") == _machine() and not _is_running(owner["pid"]):
            return False
        known_stamp, since = self._seen.get(path, (None, 0.0))
        if stamp != known_stamp:
            self._seen[path] = stamp, time.monotonic()
            return True
        return time.monotonic() - since < self._stale


class Claim:
    """A claim of this process, renewed until it is released; also a context manager."""

    def __init__(self, path: Path, heartbeat_seconds: float):
        self._path = path
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, args=(heartbeat_seconds,), daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let others have it."""
        self._released.set()
        self._thread.join()
        stem, _, number = self._path.name.rpartition(".claim")
        # those of dead owners first: until the last one is gone, nobody takes it for theirs
        for older in range(1, int(number) + 1):
            self._path.with_name(f"{stem}.claim{older}").unlink(missing_ok=True)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    def _renew(self, heartbeat_seconds: float) -> None:
        while not self._released.wait(heartbeat_seconds):
            try:
                os.utime(self._path)
            except OSError:  # the folder is gone, or the disk is away for a moment
                continue


def _number(path: Path) -> int:
    return int(path.name.rpartition(".claim")[2])


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _machine() -> str:
    """Where process ids are those that this process sees: containers of one host have others, and so has a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not on Linux
        return socket.gethostname()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another person's
        return True
    return True
