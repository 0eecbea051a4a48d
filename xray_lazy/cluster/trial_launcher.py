"""Trials of a sweep as jobs: on SLURM, or in the background of this machine."""

import dataclasses
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xray_lazy.cluster.cancelling import ask_to_leave, cancel, kill_processes
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.job_record import JobRecord, read_records
from xray_lazy.cluster.job_state import ENDED, read_state
from xray_lazy.cluster.slurm_commands import check_request
from xray_lazy.cluster.snapshot import find_checkout
from xray_lazy.cluster.status import STATE_FILES, read_status
from xray_lazy.cluster.submission import submission_facts, submit_records
from xray_lazy.errors import RunFailure, UserError

# what a sweep reads of a trial that failed
OUTPUT = "output.txt"
# each look is a call to SLURM's controller; a job that ends in order tells it by itself
QUEUE_SECONDS = 10
END_SECONDS = 120
SLURM = "slurm"


class ClusterLauncher:
    """Starts each trial as a job of its own, with the code as it was when the first one was started.

    Args:
        profile: what a trial asks for, on one node.
        capacity: trials that wait or run at once.

    Raises:
        UserError: the profile doesn't fit, or the cluster hasn't what a trial needs.
    """

    def __init__(self, profile: Profile, capacity: int):
        if profile.nodes > 1:
            raise UserError(f"a trial has one node, and the profile asks for {profile.nodes}", "take --nodes 1")
        if profile.executor == "debug":
            raise UserError("trials don't run with the executor debug", "leave out --cluster, or take --executor local")
        if profile.executor == "slurm":
            check_request(profile)
        self.capacity = capacity
        # each trial is submitted by itself, and the sweep limits how many there are at once
        self._profile = dataclasses.replace(profile, max_parallel=0)
        self._facts: dict[str, Any] = {}
        self._trials: list[TrialJob] = []
        self._looked = time.monotonic()

    def start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> "TrialJob":
        """Submit a trial's command as a job; `output.txt` in its folder becomes a link to the job's log."""
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._facts = self._facts or submission_facts(self._profile, folder.parent)
        words = ["python", *map(self._in_snapshot, command[1:])]
        record = JobRecord(kind="training", output_dir=str(folder), max_iter=0, command=words, **self._facts)
        (record,) = submit_records([record], environment)
        (folder / OUTPUT).unlink(missing_ok=True)
        (folder / OUTPUT).symlink_to(record.log_of(0))
        self._trials.append(TrialJob(record, self))
        return self._trials[-1]

    def end_leftover(self, identity: str) -> bool:
        """Cancel the job that a dead worker has left, and wait until it is gone; False for a process elsewhere."""
        place, job_id, folder = identity.split(":", 2)
        if place not in (SLURM, socket.gethostname()):
            return False
        left = [record for record in read_records(folder) if record.job_id == job_id]
        cancel(left)
        deadline = time.monotonic() + END_SECONDS
        while any(status.active for status in read_status(left, with_progress=False)) and time.monotonic() < deadline:
            time.sleep(1)
        return True

    def look(self) -> None:
        """Ask for the states of all trials at once, now and then."""
        if time.monotonic() - self._looked < QUEUE_SECONDS:
            return
        self._looked = time.monotonic()
        self._trials = [trial for trial in self._trials if trial.code is None]
        try:
            statuses = read_status([trial.record for trial in self._trials], with_progress=False)
        except RunFailure:
            return  # SLURM answers again some time; until then the trials count as running
        for trial, status in zip(self._trials, statuses, strict=True):
            if not status.active:
                codes = {"finished": 0, "failed": 1, "unknown": 1}
                trial.code = codes.get(status.state, -signal.SIGTERM)

    def _in_snapshot(self, word: str) -> str:
        """A word of the command, with a file of the checkout replaced by the same file in the snapshot."""
        checkout, code = find_checkout(), self._facts["code"]
        path = Path(word).absolute()
        if checkout and code and path.is_relative_to(checkout):
            copied = Path(code) / path.relative_to(checkout)
            return str(copied) if copied.is_file() else word
        return word


class TrialJob:
    """A trial that was submitted; `code` is its exit code when it has ended."""

    def __init__(self, record: JobRecord, launcher: ClusterLauncher):
        self.record, self.code = record, None
        self._launcher = launcher
        place = SLURM if record.executor == SLURM else socket.gethostname()
        self.identity = f"{place}:{record.job_id}:{record.output_dir}"

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's number; None while it waits or runs."""
        if self.code is None:
            own = read_state(Path(self.record.output_dir) / STATE_FILES[self.record.kind])
            if own and own.job_id == self.record.job_id and own.state in ENDED:
                codes = {"finished": 0, "stopped": -signal.SIGTERM, "failed": own.exit_code or 1}
                self.code = codes[own.state]
            else:
                self._launcher.look()
        return self.code

    def stop(self) -> None:
        """Ask it to save and to leave."""
        if self.poll() is None:
            ask_to_leave([self.record])

    def kill(self) -> None:
        """End it: at once on this machine, on SLURM within its KillWait seconds."""
        if self.poll() is None:
            ask_to_leave([self.record])
            kill_processes([self.record])
