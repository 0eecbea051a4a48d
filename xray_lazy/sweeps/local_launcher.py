"""Trials as processes of this machine, which share out its GPUs or its processors."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from xray_lazy.engine.processes.launch import count_gpus
from xray_lazy.errors import UserError
from xray_lazy.sweeps.launcher import OUTPUT
from xray_lazy.utils.processes import end_with_parent

# all processes of a trial inherit it, also those that leave its process group
MARK = "XRAY_LAZY_TRIAL"
SAVING_SECONDS = 120


class LocalLauncher:
    """Starts each trial in a free one of several places, each with devices of its own.

    Args:
        places: what each place adds to the environment; there are as many trials at once.
    """

    def __init__(self, places: Sequence[Mapping[str, str]]):
        self.capacity = len(places)
        self._places = places
        self._trials: list[LocalTrial | None] = [None] * len(places)

    def start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> "LocalTrial":
        """Start a trial; there must be a free place. What it prints is added to `output.txt` in `folder`."""
        place = next(number for number, trial in enumerate(self._trials) if trial is None or trial.poll() is not None)
        trial = LocalTrial(command, folder, {**os.environ, **environment, **self._places[place]})
        self._trials[place] = trial
        return trial

    def end_leftover(self, identity: str) -> bool:
        """End what a dead worker has left, and let it save before; False for what ran on another machine."""
        host, _, mark = identity.partition(":")
        if host != socket.gethostname():
            return False
        _end(mark, signal.SIGTERM, SAVING_SECONDS)
        _end(mark, signal.SIGKILL, 10)
        return True


class LocalTrial:
    """A training that runs on this machine."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]):
        self._mark = secrets.token_hex(8)
        self.identity = f"{socket.gethostname()}:{self._mark}"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / OUTPUT, "ab") as output:
            self._process = subprocess.Popen(
                command,
                env={**environment, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for the sweep, which tells its trials
                preexec_fn=end_with_parent,  # a worker that is killed takes its trials with it: they save and leave
            )

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's number; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save and to leave: its first process tells the others."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all its processes at once, also those that outlived the first one."""
        if self._process.poll() is None:
            self._process.kill()
        _end(self._mark, signal.SIGKILL, 0)
        self._process.wait()


def share_gpus(trials: int, gpus: int) -> list[dict[str, str]]:
    """Places for `trials` trials of `gpus` GPUs each, of those that CUDA_VISIBLE_DEVICES leaves us.

    Raises:
        UserError: there are fewer.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [name.strip() for name in given.split(",") if name.strip()] if given is not None else []
    there = count_gpus()
    visible = visible[:there] if given is not None else list(map(str, range(there)))
    if trials * gpus > len(visible):
        many = f"{trials} trials at once with {gpus} GPUs each" if trials > 1 else f"{gpus} GPUs"
        fix = f"lower --trials-in-parallel to {len(visible) // gpus} or --num-gpus"
        fix = fix if len(visible) >= gpus else f"use --num-gpus {len(visible)}"
        fix = fix if visible else "train on the CPU: --num-processes 1"
        raise UserError(f"{many} are asked for, but there are {len(visible) or 'none'}", fix)
    return [{"CUDA_VISIBLE_DEVICES": ",".join(visible[n * gpus : (n + 1) * gpus])} for n in range(trials)]


def share_processors(trials: int, processes: int) -> list[dict[str, str]]:
    """Places for `trials` trials of `processes` processes each on the CPU: each process gets its share of threads."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, there // (trials * processes))))
    return [{"OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""} for _ in range(trials)]


def _end(mark: str, number: int, seconds: float) -> None:
    """Send a signal to all processes of a trial, and wait until they are gone, at most so long."""
    deadline = time.monotonic() + seconds
    processes = _marked(mark)
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    while processes and time.monotonic() < deadline:
        time.sleep(0.1)
        processes = _marked(mark)


def _marked(mark: str) -> list[int]:
    """The processes of a trial; none where the system has no /proc."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue  # another user's, or gone meanwhile
        if wanted in environment.split(b"\0"):
            found.append(int(folder.name))
    return found
