"""`job_state.json` in the output folder: how the job that works on it fares, written from inside the job."""

import dataclasses
import datetime
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.utils.atomic_file import write_json

STATE_FILE = "job_state.json"
# what a job goes on from is never one of these
ENDED = ("finished", "failed", "stopped")


@dataclass
class JobState:
    """Plain facts of one job; a requeued job keeps its id, and its counts.

    Attributes:
        job_id: the scheduler's, such as "17", or "19_0" in an array.
        state: "running"; "requeued": it goes on under the same id; "finished"; "failed"; or "stopped": it ended in
            order before it was done.
        reason: of the state, in one or a few lines; empty while it runs.
        fix: what the user can do about it.
        rank: of the task that tells this.
        host: of that task.
        log: that task's log file.
        log_tail: the last lines of the failing task.
        exit_code: of the failing task's process; negative: the signal that killed it.
        time: of this state, ISO 8601.
        starts: of the job, this one included.
        timeouts, preemptions: that it was requeued for.
        timeouts_left: that it will be requeued for.
    """

    job_id: str
    state: str = "running"
    reason: str = ""
    fix: str = ""
    rank: int = 0
    host: str = ""
    log: str = ""
    log_tail: list[str] = field(default_factory=list)
    exit_code: int | None = None
    time: str = ""
    starts: int = 1
    timeouts: int = 0
    preemptions: int = 0
    timeouts_left: int = 0

    def write(self, path: str | os.PathLike) -> None:
        """Write the state, as of now."""
        self.time = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(path, dataclasses.asdict(self), indent=2)


def read_state(path: str | os.PathLike) -> JobState | None:
    """Read a state from its file or the `job_state.json` of a folder; None where there is none."""
    path = Path(path)
    try:
        content = json.loads((path / STATE_FILE if path.is_dir() else path).read_bytes())
        names = {f.name for f in dataclasses.fields(JobState)}
        return JobState(**{name: value for name, value in content.items() if name in names})
    except (OSError, ValueError, AttributeError, TypeError):
        return None
