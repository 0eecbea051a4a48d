"""Claims of processes, on any machines that share a folder: what one has claimed, no other one does."""

import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xray_lazy.utils.processes import process_start

HEARTBEAT_SECONDS = 15.0
# More than a minute: so long may NFS tell of an old time stamp.
STALE_SECONDS = 180.0


class Claims:
    """The claims in a folder, as one process sees them.

    A claim is the file `<name>.claim<n>`, which only one process can create; it tells host, process and time, and its
    owner renews its time stamp while it lives. Whoever finds the file of a dead owner takes it over as the next `n`,
    which again only one can create. Dead is a process of this machine that is gone, one of an earlier start of this
    SLURM job, and any of another machine whose time stamp has not changed for `stale_seconds`, by the clock of the one
    who looks.

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
        self._renewed: set[Path] = set()  # those that were seen to be

    def take(self, name: str) -> "Claim | None":
        """Claim `name`; None where a living process has it."""
        newest = self._newest(name)
        if newest is not None and self._is_alive(newest):
            return None
        path = self._folder / f"{name}.claim{_number(newest) + 1 if newest else 1}"
        return Claim(path, self._heartbeat) if _create(path) else None

    def names(self) -> set[str]:
        """What is claimed, by the living or the dead."""
        return {path.name.rpartition(".claim")[0] for path in self._folder.glob("*.claim*")}

    def is_taken(self, name: str) -> bool:
        """Whether a living process has claimed `name`."""
        newest = self._newest(name)
        return newest is not None and self._is_alive(newest)

    def owner(self, name: str) -> dict[str, Any]:
        """Who has claimed `name`, alive or dead: `host`, `pid`, `time`; empty where nobody has."""
        newest = self._newest(name)
        try:
            return json.loads(newest.read_bytes()) if newest else {}
        except (FileNotFoundError, ValueError):  # gone, or its owner is still writing it
            return {}

    def is_surely_taken(self, name: str) -> bool:
        """Whether the owner is seen to live: a process of this machine, or one that has renewed its claim meanwhile."""
        newest = self._newest(name)
        if newest is None or not self._is_alive(newest):
            return False
        return self.owner(name).get("machine") == _machine() or newest in self._renewed

    def _newest(self, name: str) -> Path | None:
        return _newest(self._folder, name)

    def _is_alive(self, path: Path) -> bool:
        try:
            stamp = path.stat().st_mtime_ns
            owner = json.loads(path.read_bytes() or b"{}")
        except FileNotFoundError:
            return False
        except ValueError:  # its owner is still writing it
            owner = {}
        if owner.get("machine") == _machine():
            return process_start(owner["pid"]) == owner["started"]
        if _is_earlier_start(owner.get("slurm_job")):
            return False
        known_stamp, since = self._seen.get(path, (None, 0.0))
        if stamp != known_stamp:
            if known_stamp is not None and owner:
                self._renewed.add(path)
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

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._path.parent

    def renew(self) -> bool:
        """Show that the owner lives, with the file anew where somebody has deleted it; False where it is another's now.

        Raises:
            OSError: the folder is gone, or the disk is away.
        """
        newest = _newest(self._path.parent, self._path.name.rpartition(".claim")[0])
        if newest is None:
            return _create(self._path)
        if newest != self._path or not _is_of_this_process(newest):
            return False
        os.utime(newest)
        return True

    def release(self) -> None:
        """Let others have it; where the disk refuses that, they have it once this process is gone."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):  # of a folder that became read-only, say: it must not hide the error that ends a run
            self._remove()

    def _remove(self) -> None:
        stem, _, number = self._path.name.rpartition(".claim")
        if self._path.exists() and not _is_of_this_process(self._path):
            return  # the folder was deleted, and is another's now
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
                self.renew()
            except OSError:  # the folder is gone, or the disk is away for a moment
                continue


def _newest(folder: Path, name: str) -> Path | None:
    return max(folder.glob(f"{name}.claim*"), key=_number, default=None)


def _create(path: Path) -> bool:
    """Write the claim of this process, unless there is one."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as stream:
        json.dump(_this_process(), stream)
    return True


def _is_of_this_process(path: Path) -> bool:
    try:
        owner = json.loads(path.read_bytes())
    except ValueError:  # its owner is still writing it
        return False
    own = _this_process()
    return all(owner.get(name) == own[name] for name in ("machine", "pid", "started"))


def _number(path: Path) -> int:
    return int(path.name.rpartition(".claim")[2])


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "slurm_job": _slurm_job(),
    }


def _machine() -> str:
    """Where process ids are those that this process sees: containers of one host have others, and so has a reboot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not on Linux
        return socket.gethostname()


def _slurm_job() -> tuple[str, int] | None:
    """The job that this process belongs to, and how often it was put back into the queue."""
    job = os.environ.get("SLURM_JOB_ID")
    return (job, int(os.environ.get("SLURM_RESTART_COUNT", 0))) if job else None


def _is_earlier_start(job: Sequence | None) -> bool:
    own = _slurm_job()
    return bool(own and job and own[0] == job[0] and job[1] < own[1])
