"""Look after the process of a job's task: hand on SLURM's signals, requeue the job, or keep why it failed."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from xray_lazy.cluster.job_state import JobState, read_state
from xray_lazy.cluster.requeue import reason_to_leave, requeue
from xray_lazy.cluster.supervised_process import SupervisedProcess
from xray_lazy.cluster.task import Task
from xray_lazy.errors import UserError
from xray_lazy.failure import PLACE, START, Failure, read_failure
from xray_lazy.run_folder import FINAL

RESUME = "submit it again: it goes on from its last checkpoint"
TOLD_TO_END = "it was told to end, as when it is cancelled, or as another of its tasks has ended"
# before the time limit the job is back in the queue, also where its process is in the middle of a long evaluation
MARGIN_SECONDS = 15
FINAL_CHECKPOINT = f"{FINAL}.pth"
KILLED = "if no person did that, memory may have run out: ask for more of it, or use fewer workers"
# a task that ends without a word has seen another end, whose own watch may still be at telling why
SILENT_SECONDS = 10
# a requeued job is ended by SLURM within this
REQUEUE_SECONDS = 120


class TaskWatch:
    """One start of one task.

    Args:
        task: this one; the task of rank 0 decides for the job.
        state_file: of the job.
        failure_file: where its processes tell why they failed.
        max_timeouts: how often it goes back into the queue at its time limit.
        signal_delay: seconds before the time limit at which SLURM sends USR2.
        newest_checkpoint: tells its name; a job that has saved nothing until its time limit never will. None for a job
            that keeps no checkpoints.
    """

    def __init__(
        self,
        task: Task,
        state_file: Path,
        failure_file: Path,
        max_timeouts: int,
        signal_delay: float,
        newest_checkpoint: Callable[[], str] | None = None,
    ):
        self.task, self.state_file, self.failure_file = task, state_file, failure_file
        self._start = f"{task.job_id}.{task.start}"
        self.max_timeouts, self.signal_delay = max_timeouts, signal_delay
        self._newest_checkpoint = newest_checkpoint
        self._process: SupervisedProcess | None = None
        self._asked_at: float | None = None  # by SIGUSR2
        self._terminated = False

    def run(
        self,
        command: Sequence[str],
        folder: str | Path,
        environment: Mapping[str, str],
        stop_signal: signal.Signals = signal.SIGUSR2,
    ) -> None:
        """Run `command` as `SupervisedProcess` does, and see the job through what happens.

        Raises:
            SystemExit: the process failed, with its code; or the job goes on at another time.
        """
        with self._handling_signals():
            saved_before = self._newest_checkpoint and self._newest_checkpoint()
            if self.task.rank == 0:
                self._begin()
            environment = {**environment, PLACE: str(self.failure_file), START: self._start}
            process = self._process = SupervisedProcess(command, folder, environment, stop_signal)
            if self._was_asked():
                process.ask_to_stop()
            code = self._wait(process)
            if self._was_asked() and self.task.rank != 0:
                sys.exit(0)  # the first task has the word; a bad exit here would end it before it has requeued the job
            if self._was_asked() and code != UserError.exit_code:
                # whatever the code: where some processes die of the signal, others fail for missing them
                self._leave(saved_before, code == 0)
            elif code:
                self._fail(code, process.tail)
            elif self.task.rank == 0 and not self._has_failed():
                if self._newest_checkpoint and self._newest_checkpoint() not in (saved_before, FINAL_CHECKPOINT):
                    self._leave(saved_before, True)  # the signal has reached another task, or the process alone
                else:
                    self._write("finished")

    def _wait(self, process: SupervisedProcess) -> int | None:
        """The exit code; None where time is up and the process has not left."""
        patience = max(self.signal_delay - MARGIN_SECONDS, self.signal_delay / 2)
        has_told = False
        while (code := process.wait(1)) is None:
            if self._terminated and self.task.rank == 0 and not has_told and not self._has_failed():
                has_told = True
                self._tell_end()
            late = self._asked_at is not None and time.monotonic() > self._asked_at + patience
            if late and self.task.rank == 0:
                return None
        return code

    def _tell_end(self) -> None:
        """At once, for SLURM may not wait for the end; unless the job goes on at another time."""
        task = self.task
        if not task.on_slurm or reason_to_leave(task.job_id, self.signal_delay) == "cancelled":
            self._write("stopped", reason=TOLD_TO_END, fix=RESUME)

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """In place of submitit's handlers, which take each preemption of a short job for a time-out."""

        def stop(number: int, frame: object) -> None:
            if number == signal.SIGUSR2:
                self._asked_at = self._asked_at or time.monotonic()
            else:
                self._terminated = True
            if self._process is None:
                return  # asked as soon as it is there
            if self._has_failed():
                self._process.kill()  # it would wait for the failed one in vain
            else:
                self._process.ask_to_stop()

        handlers = dict.fromkeys((signal.SIGUSR2, signal.SIGTERM, signal.SIGINT), stop)
        handlers[signal.SIGCONT] = signal.SIG_DFL  # it comes along with them
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _was_asked(self) -> bool:
        return self._asked_at is not None or self._terminated

    def _leave(self, saved_before: str | None, has_saved: bool) -> None:
        """Decide what becomes of a job whose process was asked to leave."""
        if self._has_failed():
            sys.exit(1)
        self.failure_file.unlink(missing_ok=True)  # where some processes left, others may have missed them
        # not so: one that was complete, was given more to do, and could not save
        if has_saved and self._newest_checkpoint and self._newest_checkpoint() == FINAL_CHECKPOINT:
            self._write("finished")
            return
        if not self.task.on_slurm:
            self._stop(TOLD_TO_END, RESUME)
        reason = reason_to_leave(self.task.job_id, self.signal_delay)
        if reason == "cancelled":
            self._stop("it was cancelled, or put back into the queue by hand", RESUME)
        if self._asked_at is None and reason not in ("preempted", "time limit"):
            self._stop(TOLD_TO_END, RESUME)
        state = self._state()
        state.state, state.reason = "requeued", reason if has_saved else f"{reason}; it could not save"
        if reason == "time limit":
            state.timeouts += 1
            self._check_time_limit(state, saved_before)
        else:
            state.preemptions += 1
        self._requeue(state, reason)

    def _check_time_limit(self, state: JobState, saved_before: str | None) -> None:
        if self._newest_checkpoint and self._newest_checkpoint() == saved_before:
            self._stop(
                "it reached its time limit and had saved nothing since it started",
                "raise the time limit, or save more often: train.checkpointer.period",
            )
        if state.timeouts > self.max_timeouts:
            self._stop(
                f"it reached its time limit, for which it is requeued {self.max_timeouts} times (max_timeouts)", RESUME
            )

    def _requeue(self, state: JobState, reason: str) -> None:
        state.timeouts_left = self.max_timeouts - state.timeouts
        state.write(self.state_file)
        print(f"job {self.task.job_id} goes back into the queue: {state.reason}", flush=True)
        objection = requeue(self.task.job_id)
        if objection:
            print(f"job {self.task.job_id}: SLURM does not requeue it: {objection}", flush=True)
        # SLURM ends it now; one that is preempted, and stays, it requeues by itself
        if not objection or reason != "time limit":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(REQUEUE_SECONDS)
        if objection:
            self._stop(f"{state.reason}, and SLURM does not requeue it: {objection}", RESUME)
        sys.exit(0)

    def _stop(self, reason: str, fix: str) -> None:
        self._write("stopped", reason=reason, fix=fix)
        print(f"job {self.task.job_id} ends: {reason}", flush=True)
        sys.exit(1)

    def _fail(self, code: int, tail: list[str]) -> None:
        """Let the task tell whose process failed first; another bad exit might end it before it has."""
        task, until = self.task, time.monotonic() + (SILENT_SECONDS if self.task.tasks > 1 else 0)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        own = Failure(
            f"its process {how}", KILLED if code < 0 else "", code, rank=task.rank, host=task.host, start=self._start
        )
        if code < 0:
            own.write(self.failure_file)
        while not self._has_failed() and self._first_rank() != task.rank and time.monotonic() < until:
            time.sleep(0.1)
        if not self._has_failed():
            own.write(self.failure_file)
            first = self._failure() or own
            self._write("failed", reason=first.message, fix=first.fix, exit_code=code, log_tail=tail)
        sys.exit(code if code > 0 else 1)

    def _begin(self) -> None:
        if not self._has_failed():  # another task may have been quicker
            self._write("running")

    def _write(self, name: str, **facts: object) -> None:
        state = self._state()
        state.state = name
        for key, value in facts.items():
            setattr(state, key, value)
        state.write(self.state_file)

    def _state(self) -> JobState:
        """That of this start, with the counts of the job's earlier ones."""
        task, earlier = self.task, read_state(self.state_file)
        state = JobState(task.job_id, rank=task.rank, host=task.host, log=task.log, starts=task.start)
        if earlier and earlier.job_id == task.job_id:
            state.timeouts, state.preemptions = earlier.timeouts, earlier.preemptions
        state.timeouts_left = max(0, self.max_timeouts - state.timeouts)
        return state

    def _has_failed(self) -> bool:
        """Whether a task has told that this start has failed."""
        state = read_state(self.state_file)
        this_start = (self.task.job_id, self.task.start)
        return state is not None and state.state == "failed" and (state.job_id, state.starts) == this_start

    def _failure(self) -> Failure | None:
        """What the process said that failed first in this start, in whichever task."""
        failure = read_failure(self.failure_file)
        return failure if failure and failure.start == self._start else None

    def _first_rank(self) -> int | None:
        failure = self._failure()
        return failure.rank if failure else None
