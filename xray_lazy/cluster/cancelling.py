"""End jobs that wait or run, on SLURM or on this machine."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from xray_lazy.cluster.job_record import JobRecord
from xray_lazy.cluster.job_state import JobState
from xray_lazy.cluster.slurm_commands import cancel_jobs
from xray_lazy.cluster.status import START, STATE_FILES, process_runs, read_status

# as SLURM's own default between SIGTERM and SIGKILL
GRACE_SECONDS = 30


def cancel(records: Sequence[JobRecord]) -> list[JobRecord]:
    """Cancel those of the jobs that wait or run, and return them; those that run may save a checkpoint first.

    Local jobs are gone when this returns; SLURM gives its jobs KillWait seconds.

    Raises:
        RunFailure: SLURM refuses or gives no answer.
    """
    active = [status.record for status in read_status(records, with_progress=False) if status.active]
    ask_to_leave(active)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(map(process_runs, active)) and time.monotonic() < deadline:
        time.sleep(0.2)
    kill_processes(active)
    return active


def overwritten_runs(records: Sequence[JobRecord]) -> list[Path]:
    """Where the earlier runs are that `--overwrite` moved aside for these jobs, and none of them has deleted yet."""
    from xray_lazy.engine.output_folder.folder_ownership import ASIDE_NAME

    return [aside for record in records if (aside := Path(record.output_dir) / ASIDE_NAME).is_dir()]


def ask_to_leave(records: Sequence[JobRecord]) -> None:
    """Have jobs save and end; those that wait are taken out of the queue.

    Raises:
        RunFailure: SLURM refuses or gives no answer.
    """
    on_slurm = [record.job_id for record in records if record.executor == "slurm"]
    if on_slurm:
        cancel_jobs(on_slurm)
    for record in records:  # before those are ended in whose place they would be started
        if record.waits_for:
            state = JobState(record.job_id, "stopped", "it was cancelled before it started", START)
            state.write(Path(record.output_dir) / STATE_FILES[record.kind])
    for record in records:
        _signal(record, signal.SIGTERM)


def kill_processes(records: Sequence[JobRecord]) -> None:
    """End local jobs at once; SLURM does that by itself to cancelled jobs that don't leave."""
    for record in records:
        _signal(record, signal.SIGKILL)


def _signal(record: JobRecord, number: int) -> None:
    """Signal a local job's processes, which are one group; not a stranger that has its number by now."""
    if record.executor == "local" and process_runs(record):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(record.job_id), number)
