"""Run a sweep's trials: claim, start, watch, stop early, and record how each ended."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.errors import UserError
from xray_lazy.failure import FAILURE_FILE, PLACE, read_failure
from xray_lazy.run_folder import RunFolder
from xray_lazy.sweeps.launcher import OUTPUT, TrialHandle, TrialLauncher
from xray_lazy.sweeps.study import Claim, SweepStudy
from xray_lazy.sweeps.sweep_console import SweepConsole
from xray_lazy.sweeps.training_command import TrainingCommand
from xray_lazy.sweeps.trial_metric import MetricSource, TrialValues
from xray_lazy.sweeps.trials import Trial
from xray_lazy.sweeps.workers import Worker
from xray_lazy.utils.interruption import ENDING, heard, signal_of_exit
from xray_lazy.utils.wording import counted

POLL_SECONDS = 0.5
BEAT_SECONDS = 10
# until a worker with nothing to start looks again whether another one has left a trial
ASK_AGAIN_SECONDS = 10
# A trial that was asked to stop finishes its step and saves; then it is ended.
STOP_SECONDS = 300
# A trial that ends with a user error may have bad values; if this many from the start on do, the sweep is at fault.
USER_ERROR, USER_ERRORS_ALIKE = 2, 3


@dataclass
class _Running:
    """A trial that this worker runs.

    Attributes:
        start: by `time.monotonic`.
        seen: time and size of its metrics file when that was read last.
        wish: why it was asked to stop: "prune", "interrupt", or "" where it wasn't.
        wished: when that was.
    """

    trial: Trial
    handle: TrialHandle
    start: float
    seen: tuple[int, int] | None = None
    values: TrialValues = field(default_factory=lambda: TrialValues({}, None))
    wish: str = ""
    wished: float = 0.0


class SweepRunner:
    """A worker's loop over trials.

    Args:
        study: the record of the sweep's trials.
        worker: that it runs as.
        launcher: starts trials.
        command: of each trial.
        metric: reads the trials' values.
        console: is told what happens.
        on_end: called with all trials after each one that ended.
    """

    def __init__(
        self,
        study: SweepStudy,
        worker: Worker,
        launcher: TrialLauncher,
        command: TrainingCommand,
        metric: MetricSource,
        console: SweepConsole,
        on_end: Callable[[list[Trial]], None] = lambda trials: None,
    ):
        self._study, self._worker, self._launcher = study, worker, launcher
        self._command, self._metric, self._console, self._on_end = command, metric, console, on_end
        self._running: list[_Running] = []
        self._signals: list[int] = []
        self._last_beat = time.monotonic()
        self._ask_at = 0.0
        self.name = study.folder.name

    def run(self, limit: int) -> int | None:
        """Run trials until the sweep has `limit` of them, or nothing is left; returns the signal that ended it, if any.

        Raises:
            UserError: the first trials have all ended with errors that others would meet, too.
        """
        hopeless = None
        with heard(ENDING, lambda number, frame: self._signals.append(number)):
            while True:
                if not self._signals and not hopeless:
                    try:
                        self._fill(limit)
                    except UserError as error:
                        hopeless = error
                if self._signals or hopeless:
                    self._wind_up()
                if not self._running:
                    break
                time.sleep(POLL_SECONDS)
                self._beat()
                for running in list(self._running):
                    self._look_at(running)
                self._show()
        if hopeless:
            raise hopeless
        return self._signals[0] if self._signals else None

    def _fill(self, limit: int) -> None:
        """Start trials as long as there is place for them."""
        while len(self._running) < self._launcher.capacity and time.monotonic() >= self._ask_at:
            claim = self._study.claim(limit)
            if claim:
                self._start(claim)
            else:
                self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS

    def _wind_up(self) -> None:
        """Let all trials save and leave; end them at once where a signal came again."""
        if self._signals and any(not running.wish for running in self._running):
            name = signal.Signals(self._signals[0]).name
            self._console.say(f"{name}: the running trials finish their step and save; once more ends them at once")
        for running in self._running:
            if not running.wish:
                self._ask_to_stop(running, "interrupt")
            if len(self._signals) > len(set(self._signals)):  # SIGTERM and SIGHUP come together at a session's end
                running.handle.kill()

    def _start(self, claim: Claim) -> None:
        trial = claim.trial
        self._worker.beat()
        if claim.leftover and not self._launcher.end_leftover(claim.leftover):
            self._console.say(f"trial {trial.number} was left by a worker on another machine, which is silent")
        goes_on = RunFolder(trial.folder).last.is_file()
        environment = {"WANDB_NAME": f"{self.name}-{trial.name}", "WANDB_RUN_GROUP": self.name}
        failure_file = trial.folder / FAILURE_FILE
        failure_file.unlink(missing_ok=True)
        environment[PLACE] = str(failure_file.absolute())
        handle = self._launcher.start(self._command.of(trial.parameters, trial.folder), trial.folder, environment)
        self._study.set_process(trial.number, handle.identity)
        self._running.append(_Running(trial, handle, time.monotonic()))
        self._console.started(trial, goes_on)

    def _look_at(self, running: _Running) -> None:
        code = running.handle.poll()
        has_news = self._read_values(running, has_ended=code is not None)
        if code is not None:
            running.handle.kill()  # what may be left of its processes
            RunFolder(running.trial.folder).remove_leftovers()
            self._running.remove(running)
            self._ask_at = 0.0
            self._record_end(running, code)
        elif running.wish and time.monotonic() - running.wished > STOP_SECONDS:
            running.handle.kill()
        elif has_news and not running.wish and self._study.should_stop(running.trial.number):
            self._ask_to_stop(running, "prune")

    def _read_values(self, running: _Running, has_ended: bool) -> bool:
        """Record the trial's new values; returns whether there are any."""
        try:
            status = RunFolder(running.trial.folder).metrics.stat()
        except FileNotFoundError:
            return False
        seen = (status.st_mtime_ns, status.st_size)
        if seen == running.seen and not has_ended:  # shared file systems may show an old time and size
            return False
        running.seen, running.values = seen, self._metric.read(running.trial.folder)
        known = running.trial.intermediate_values
        new = {i: value for i, value in running.values.finite.items() if known.get(i) != value}
        self._study.report(running.trial.number, new)
        known.update(new)
        return bool(new)

    def _record_end(self, running: _Running, code: int) -> None:
        number, folder = running.trial.number, running.trial.folder
        if code == 0 and RunFolder(folder).is_complete():
            value, reason = self._metric.value_at_end(running.values)
            if value is None:
                # a whole run that has never logged the metric: its name is wrong, and no other run has it
                self._study.fail(number, "failed", reason, alike=0 if running.values.by_iteration else 1)
            else:
                self._study.finish(number, value)
        elif running.wish == "prune":
            self._study.prune(
                number, f"stopped after {counted(len(running.values.finite), 'value')}, worse than others there"
            )
        elif running.wish == "interrupt":
            self._study.interrupt(number)
            self._console.say(f"trial {number} is interrupted")
            return
        else:
            is_killed = code <= 0 or signal_of_exit(code)  # 0: somebody asked it to stop
            state = "killed" if is_killed else "failed"
            alike = USER_ERRORS_ALIKE if code == USER_ERROR else 0
            self._study.fail(number, state, _reason(code, folder), alike)
        trials = self._study.trials()
        self._console.ended(trials[number], trials)
        self._on_end(trials)

    def _ask_to_stop(self, running: _Running, wish: str) -> None:
        running.wish, running.wished = wish, time.monotonic()
        running.handle.stop()

    def _beat(self) -> None:
        """Say that this worker lives, and leave trials alone that others took because it had not said so for long."""
        if time.monotonic() - self._last_beat < BEAT_SECONDS:
            return
        self._worker.beat()
        self._last_beat = time.monotonic()
        for running in [running for running in self._running if not self._study.is_mine(running.trial.number)]:
            running.handle.kill()
            self._running.remove(running)
            self._console.say(f"trial {running.trial.number} was taken over by another worker")

    def _show(self) -> None:
        rows = []
        for running in self._running:
            values = running.values
            last = list(values.finite.values())[-1] if values.finite else None
            rows.append((running.trial, running.start, values.last_iteration, last))
        self._console.show(rows)


def _reason(code: int, folder: Path) -> str:
    """Why a trial's training has ended before its end, in one line."""
    if code < 0 or signal_of_exit(code):
        number = signal_of_exit(code) or -code
        hint = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
        return f"killed by {signal.Signals(number).name}{hint}"
    if code == 0:
        return "it left before its end"
    failure = read_failure(folder / FAILURE_FILE)
    return f"exit code {code}: {failure.headline if failure else f'it did not say why, see its {OUTPUT}'}"
