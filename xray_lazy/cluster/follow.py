"""Stay with jobs: show the live log of one, or wait until all are over."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from xray_lazy.cluster.job_record import JobRecord
from xray_lazy.cluster.status import JobStatus, read_status
from xray_lazy.cluster.tables import print_failure
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.utils.interruption import ending_signal

LOG_SECONDS = 0.5
# each look is a call to SLURM's controller, which all users share
QUEUE_SECONDS = 5
MAX_QUEUE_SECONDS = 60
# this many looks in a row may fail: a controller that restarts, a network that hiccups
PATIENCE = 20


def stay_with(records: Sequence[JobRecord], with_log: bool) -> int:
    """Stay until all jobs are over, and return an exit code: 0, or 1 where one did not finish.

    Ctrl-C ends this, and leaves the jobs running.

    Args:
        with_log: show the live log of the first process; for one job only.

    Raises:
        UserError: a log is wanted of several jobs.
        RunFailure: SLURM gives no answer for long.
    """
    if with_log:
        # of a training and the evaluator beside it, the training
        records = [record for record in records if record.kind == "training"] or records
        require_one_job([record.output_dir for record in records])
    try:
        statuses = [follow(records[0])] if with_log else wait(records)
    except KeyboardInterrupt as interrupt:
        names = ", ".join(record.job_id for record in records)
        print(f"\nleft: the jobs go on ({names}); `submit.py cancel` ends them", file=sys.stderr)
        return 128 + ending_signal(interrupt)
    for status in read_status([status.record for status in statuses]):
        if status.state == "failed":
            print_failure(status)
    return 0 if all(status.state == "finished" for status in statuses) else 1


def require_one_job(folders: Sequence[str | os.PathLike]) -> None:
    """Raises: UserError: the jobs of these folders are several, of which one log can't be followed."""
    if len(folders) > 1:
        message = f"there are {len(folders)} jobs, and one log can be followed"
        raise UserError(message, f"--wait stays with all; submit.py follow {folders[0]} shows the log of one")


def follow(record: JobRecord) -> JobStatus:
    """Print what the job's first task prints, from the beginning and until the job is over; returns its last status.

    Ctrl-C ends this and nothing else: KeyboardInterrupt comes through, and the job goes on.
    """
    log = _Log(record.log_of(0))
    for status in _statuses([record]):
        log.print_new()
        if not status[0].active:
            time.sleep(LOG_SECONDS)  # what was written last may still be on its way
            log.print_new()
            return status[0]
        deadline = time.monotonic() + QUEUE_SECONDS
        while time.monotonic() < deadline:
            log.print_new()
            time.sleep(LOG_SECONDS)
    raise AssertionError("the statuses go on until the job is over")


def wait(records: Sequence[JobRecord]) -> list[JobStatus]:
    """Wait until all jobs are over, with a line for each change of a job's state; returns their last statuses."""
    pause = QUEUE_SECONDS
    for statuses in _statuses(records):
        if not any(status.active for status in statuses):
            return statuses
        time.sleep(pause)
        pause = min(pause * 1.2, MAX_QUEUE_SECONDS)
    raise AssertionError("the statuses go on until all jobs are over")


def _statuses(records: Sequence[JobRecord]) -> Iterator[list[JobStatus]]:
    """The jobs' statuses again and again; told on standard error when they change."""
    told: dict[str, str] = {}
    failures = 0
    while True:
        try:
            statuses = read_status(records, with_progress=False)
        except RunFailure:
            failures += 1
            if failures > PATIENCE:
                raise
            time.sleep(QUEUE_SECONDS)
            continue
        failures = 0
        for status in statuses:
            text = status.state + (f": {status.reason}" if status.reason else "")
            if told.get(status.record.job_id) != text:
                told[status.record.job_id] = text
                print(f"job {status.record.job_id} {text}", file=sys.stderr, flush=True)
        yield statuses


class _Log:
    """Prints what is new in a file, which may not be there yet."""

    def __init__(self, path: Path):
        self.path, self.position = path, 0

    def print_new(self) -> None:
        try:
            with open(self.path, "rb") as stream:
                stream.seek(self.position)
                text = stream.read()
        except OSError:
            return
        self.position += len(text)
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
