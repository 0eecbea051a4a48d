"""What runs in each task of a job: a process that trains, looked after by one that knows SLURM.

The looked-after process is an ordinary run that always resumes. This side hears of time limits, preemption and
failures, decides whether the job goes back into the queue, and keeps the reasons in `job_state.json`.
"""

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.cluster.job_state import STATE_FILE
from xray_lazy.cluster.task import Task
from xray_lazy.cluster.task_watch import TaskWatch
from xray_lazy.failure import FAILURE_FILE
from xray_lazy.run_folder import RunFolder


@dataclass(frozen=True)
class TrainingJob:
    """Train `<output_dir>/config.yaml` in this task, one of the job's, going on from the last checkpoint if any.

    Attributes:
        output_dir: absolute; it holds the checked config.
        working_dir: absolute; what relative paths in the config start from.
        overrides: that the config was made with, for the record.
        typed: the command that submitted it, as for a shell; for the record, too.
        max_timeouts: how often the job goes back into the queue at its time limit; preemptions don't count.
        signal_delay: seconds before the time limit at which SLURM sends USR2.
    """

    output_dir: str
    working_dir: str
    overrides: list[str] = field(default_factory=list)
    typed: str = ""
    max_timeouts: int = 10
    signal_delay: float = 90

    def __call__(self) -> None:
        """Raises SystemExit with the code of a process that failed."""
        task = Task.of_environment()
        watch = TaskWatch(
            task,
            Path(self.output_dir) / STATE_FILE,
            Path(self.output_dir) / FAILURE_FILE,
            self.max_timeouts,
            self.signal_delay,
            RunFolder(self.output_dir).newest,
        )
        module = "xray_lazy.cluster.training_process"
        command = [sys.executable, "-m", module, self.output_dir, self.working_dir, self.typed, *self.overrides]
        # `python -m` looks into the present folder first, where the job's code is
        watch.run(command, os.getcwd(), {**os.environ, **task.group_environment()})


@dataclass(frozen=True)
class CommandJob:
    """Run a tool in a job of one task; at a time limit or preemption it gets SIGTERM, and is run again.

    Attributes:
        output_dir: absolute.
        working_dir: absolute; where the command runs.
        command: program and arguments; "python" is the job's own.
        state_file, failure_file: their names in `output_dir`, beside those of other jobs.
        max_timeouts, signal_delay: as of `TrainingJob`.
    """

    output_dir: str
    working_dir: str
    command: list[str]
    state_file: str
    failure_file: str = FAILURE_FILE
    max_timeouts: int = 10
    signal_delay: float = 90

    def __call__(self) -> None:
        """Raises SystemExit with the code of a command that failed."""
        state_file, failure_file = (Path(self.output_dir) / name for name in (self.state_file, self.failure_file))
        watch = TaskWatch(Task.of_environment(), state_file, failure_file, self.max_timeouts, self.signal_delay)
        program = sys.executable if self.command[0] == "python" else self.command[0]
        watch.run([program, *self.command[1:]], self.working_dir, os.environ, signal.SIGTERM)
