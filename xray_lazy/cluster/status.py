"""How submitted jobs fare: their states, how far they are, and why one failed."""

import os
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.cluster.job_record import JobRecord
from xray_lazy.cluster.job_state import ENDED, STATE_FILE, JobState, read_state
from xray_lazy.cluster.slurm_commands import QueueState, job_states
from xray_lazy.failure import FAILURE_FILE
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.file_end import last_lines
from xray_lazy.utils.processes import process_start

STATE_FILES = {"training": STATE_FILE, "evaluator": "evaluator_state.json"}
FAILURE_FILES = {"training": FAILURE_FILE, "evaluator": f"evaluator/{FAILURE_FILE}"}
TAIL_LINES = 15
RESUBMIT = "submit.py resubmit goes on from its last checkpoint"
START = "submit.py resubmit starts it"
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "SUSPENDED", "STOPPED")
SHOWN_METRIC = re.compile(r"(bbox|segm)\w*/AP")


@dataclass
class JobStatus:
    """What is known of a job.

    Attributes:
        state: "waiting", "running", "finished", "stopped" (in order, before it was done), "cancelled", "failed", or
            "unknown": SLURM has forgotten it, or it is a local one of another machine; and the job itself said nothing.
        reason: why it waits or how it ended; may be empty.
        fix: what to do about it; may be empty.
        iterations: done.
        eta_seconds: None where it isn't known, or the job doesn't run.
        metrics: the last loss and evaluation.
        log: of the task that failed, else of the first one.
        host: of that task; empty where it isn't known.
        log_tail: its last lines, for a failed job.
    """

    record: JobRecord
    state: str
    reason: str = ""
    fix: str = ""
    iterations: int = 0
    eta_seconds: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    log: Path = Path()
    host: str = ""
    log_tail: list[str] = field(default_factory=list)

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "running")


def read_status(records: Sequence[JobRecord], with_progress: bool = True) -> list[JobStatus]:
    """The status of each job, in their order; SLURM is asked once for all.

    Args:
        with_progress: False leaves out what `metrics.json` has.

    Raises:
        RunFailure: SLURM doesn't answer.
    """
    queue = job_states(record.job_id for record in records if record.executor == "slurm")
    found = []
    for record in records:
        state_file = Path(record.output_dir) / STATE_FILES[record.kind]
        own = read_state(state_file)
        own = own if own and own.job_id == record.job_id else None
        status = _of_slurm(record, queue, own) if record.executor == "slurm" else _of_process(record, own)
        if with_progress and record.kind == "training":
            _add_progress(status)
        if status.state == "failed":
            _add_log(status, own)
        found.append(status)
    return found


def process_runs(record: JobRecord) -> bool:
    """Whether the process that watches over the tasks of a local job is alive, and is that process still."""
    if record.executor != "local" or record.host != socket.gethostname():
        return False
    try:
        command = Path(f"/proc/{int(record.job_id)}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return b"submitit.local._local" in command and os.fsencode(record.logs) in command


def _of_slurm(record: JobRecord, queue: dict[str, QueueState], own: JobState | None) -> JobStatus:
    known = queue.get(record.job_id)
    if known is None:
        if own and own.state in ENDED:
            return JobStatus(record, own.state, own.reason, own.fix)
        return JobStatus(record, "unknown", "SLURM no longer knows this job", RESUBMIT)
    if known.state in WAITING:
        again = f"{own.reason}; " if own and own.state == "requeued" else ""
        return JobStatus(record, "waiting", again + known.reason)
    if known.state in RUNNING:
        return JobStatus(record, "running", "" if known.state == "RUNNING" else known.state.lower())
    if known.state == "COMPLETED":
        return JobStatus(record, own.state if own and own.state in ENDED else "finished", own.reason if own else "")
    if known.state == "CANCELLED":
        return JobStatus(record, "cancelled")
    if own and own.state in ("failed", "stopped"):
        return JobStatus(record, own.state, own.reason, own.fix)
    slurm = known.state.lower().replace("_", " ") + (f", {known.reason}" if known.reason else "")
    return JobStatus(record, "failed", f"SLURM says: {slurm}")


def _of_process(record: JobRecord, own: JobState | None) -> JobStatus:
    if process_runs(record):
        return JobStatus(record, "running")
    if own and own.state in ENDED:
        return JobStatus(record, own.state, own.reason, own.fix)
    if record.host != socket.gethostname():
        return JobStatus(record, "unknown", f"its processes are those of {record.host}", "ask there")
    if record.waits_for:
        if process_start(int(record.job_id.partition("_")[0])) == record.waits_for:
            return JobStatus(record, "waiting", "for the jobs of its array before it")
        return JobStatus(record, "stopped", "the command that was to start it has ended", START)
    return JobStatus(record, "failed", "its processes ended without a word", RESUBMIT)


def _add_progress(status: JobStatus) -> None:
    files = RunFolder(status.record.output_dir)
    lines = files.read_metrics()
    if not lines:
        return
    status.iterations = lines[-1]["iteration"] + 1
    eta = next((line["eta_seconds"] for line in reversed(lines) if line.get("eta_seconds") is not None), None)
    if status.state == "running" and eta is not None:
        status.eta_seconds = max(0.0, eta - (time.time() - files.metrics.stat().st_mtime))
    for line in lines:
        for name, value in line.items():
            if value is not None and (name == "total_loss" or SHOWN_METRIC.fullmatch(name)):
                status.metrics[name] = value
    status.metrics = dict(sorted(status.metrics.items(), key=lambda item: item[0] != "total_loss"))


def _add_log(status: JobStatus, own: JobState | None) -> None:
    """The end of the log that tells why: that of the task which said so, or which SLURM saw dying first."""
    record = status.record
    if own and own.log_tail:
        status.log, status.host, status.log_tail = Path(own.log), own.host, own.log_tail[-TAIL_LINES:]
        return
    first = last_lines(record.log_of(0))
    died = re.search(r"srun: error: \S+: tasks? (\d+)\b", "\n".join(first))
    status.log = record.log_of(int(died[1])) if died and record.log_of(int(died[1])).is_file() else record.log_of(0)
    status.log_tail = last_lines(status.log)[-TAIL_LINES:]
