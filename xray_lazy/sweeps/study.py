"""The record of a sweep's trials: an Optuna study in a journal file, which many workers may write to at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from xray_lazy.errors import UserError
from xray_lazy.sweeps.hyperband import should_stop
from xray_lazy.sweeps.lease import Lease
from xray_lazy.sweeps.samplers import make_sampler
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.trials import Trial, best_trial
from xray_lazy.sweeps.workers import Worker, is_alive
from xray_lazy.utils.wording import counted

JOURNAL = "journal.log"
NAME = "sweep"
# A trial that takes its worker down with it must not do so forever.
ATTEMPTS = 3
# To choose parameters takes seconds; on a busy machine, with a Gaussian process, more of them.
CLAIM_SECONDS = 120
JOURNAL_SECONDS = 30
AFTER_LOSS = "put a copy of it back, or start the sweep anew in another --output-dir; nothing was changed here"

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Claim:
    """A trial that this worker is to run.

    Attributes:
        leftover: the launcher's name for what another worker may have left running of it; else empty.
    """

    trial: Trial
    leftover: str = ""


class SweepStudy:
    """A sweep's trials, for the workers that run them.

    Args:
        folder: of the sweep, which exists.
        sweep: as it was read.
        worker: the one that asks.

    Raises:
        UserError: the record can't be read, or lacks trials whose folders are there.
    """

    def __init__(self, folder: Path, sweep: Sweep, worker: Worker):
        self.folder, self._sweep, self._worker = folder, sweep, worker
        with Lease(folder / "claim", CLAIM_SECONDS):
            self._storage = _open(folder)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                sampler=make_sampler(sweep),
                direction=sweep.metric.goal,
                load_if_exists=True,
            )
            _raise_if_forgotten(folder, len(self._study.get_trials(deepcopy=False)))

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return [_trial(self.folder, frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def claim(self, limit: int) -> Claim | None:
        """The next trial for this worker: one that another has left unfinished, or a new one; None for no more.

        Args:
            limit: trials of the sweep, over all workers.

        Raises:
            UserError: the first trials have all ended with errors that others would meet, too.
        """
        with Lease(self.folder / "claim", CLAIM_SECONDS):
            frozen = self._study.get_trials(deepcopy=False)
            trials = [_trial(self.folder, one) for one in frozen]
            for one, trial in zip(frozen, trials, strict=True):
                if trial.state == "interrupted" and self._may_go_on(one):
                    return self._take(one)
            _raise_if_hopeless(frozen)
            if len(trials) >= limit or self._has_reached_target(trials):
                return None
            return self._take(self._frozen(self._study.ask().number))

    def is_mine(self, number: int) -> bool:
        """Whether a trial is still this worker's to run and to record."""
        trial = self._frozen(number)
        return trial.state == TrialState.RUNNING and trial.user_attrs.get("worker") == self._worker.name

    def set_process(self, number: int, identity: str) -> None:
        """Record by which name the launcher knows a trial's processes."""
        self._set(number, process=identity)

    def report(self, number: int, values: Mapping[int, float]) -> None:
        """Record values of the metric by iteration."""
        for iteration, value in values.items():
            self._storage.set_trial_intermediate_value(self._id(number), iteration, value)

    def should_stop(self, number: int) -> bool:
        """Whether a running trial is so much worse than the others that it isn't worth its time."""
        stop, metric = self._sweep.early_terminate, self._sweep.metric
        if stop is None:
            return False
        curves = {trial.number: list(_curve(trial).values()) for trial in self._study.get_trials(deepcopy=False)}
        return should_stop(stop, metric, curves.pop(number), list(curves.values()))

    def finish(self, number: int, value: float) -> None:
        """Record a trial that has gone to its end."""
        self._study.tell(number, value)

    def prune(self, number: int, reason: str) -> None:
        """Record a trial that was stopped early."""
        self._set(number, reason=reason)
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, state: str, reason: str, alike: int = 0) -> None:
        """Record a trial that ended with an error ("failed") or by a signal ("killed").

        Args:
            number, state, reason: of the trial.
            alike: after this many trials from the start on that all end so, the sweep is stopped; 0 never stops it.
        """
        self._set(number, outcome=state, reason=reason, alike=alike)
        self._study.tell(number, state=TrialState.FAIL)

    def interrupt(self, number: int) -> None:
        """Give a trial back, to be gone on with; the attempts that count are those in which workers die in a row."""
        self._set(number, worker="", attempts=0, reason="the sweep was interrupted")

    def _take(self, frozen: FrozenTrial) -> Claim:
        """Put this worker's name on a trial; choose its parameters, where no worker came to that."""
        live = optuna.trial.Trial(self._study, self._id(frozen.number))
        grid = self._sweep.method == "grid"
        varied = {key: parameter.suggest(live, grid) for key, parameter in self._sweep.varied.items()}
        parameters = {key: varied[key] if key in varied else p.values[0] for key, p in self._sweep.parameters.items()}
        attempts = frozen.user_attrs.get("attempts", 0) + 1
        leftover = frozen.user_attrs.get("process", "")
        self._set(frozen.number, parameters=parameters, worker=self._worker.name, attempts=attempts, reason="")
        return Claim(_trial(self.folder, self._frozen(frozen.number)), leftover)

    def _may_go_on(self, frozen: FrozenTrial) -> bool:
        """Whether an abandoned trial is tried again; else it is recorded as killed."""
        given_back = not frozen.user_attrs.get("worker")
        if given_back or frozen.user_attrs.get("attempts", 0) < ATTEMPTS:
            return True
        self.fail(frozen.number, "killed", f"its worker died in each of {ATTEMPTS} attempts")
        return False

    def _has_reached_target(self, trials: list[Trial]) -> bool:
        metric = self._sweep.metric
        best = best_trial(metric, trials)
        return bool(best and metric.target is not None and not metric.is_better(metric.target, best.value))

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(NAME)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))

    def _set(self, number: int, **attributes: Any) -> None:
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self._id(number), name, value)


def list_trials(folder: str | Path) -> list[Trial]:
    """All trials of the sweep in `folder`, by number; none where no sweep has begun there."""
    folder = Path(folder)
    if not (folder / JOURNAL).is_file():
        return []
    try:
        study = optuna.load_study(storage=_open(folder), study_name=NAME)
    except KeyError:  # a worker has only just made the file
        return []
    return [_trial(folder, frozen) for frozen in study.get_trials(deepcopy=False)]


def trial_folder(folder: Path, number: int) -> Path:
    """The output folder of a trial."""
    return folder / "trials" / f"{number:04d}"


def _trial(folder: Path, frozen: FrozenTrial) -> Trial:
    attributes = frozen.user_attrs
    state, reason = _state(folder, frozen), attributes.get("reason", "")
    if state == "interrupted" and not reason:
        reason = "its worker died"
    return Trial(
        number=frozen.number,
        state=state,
        parameters=attributes.get("parameters", {}),
        folder=trial_folder(folder, frozen.number),
        reason=reason,
        value=frozen.value if frozen.state == TrialState.COMPLETE else None,
        intermediate_values=_curve(frozen),
        started=frozen.datetime_start,
        ended=frozen.datetime_complete,
        worker=attributes.get("worker", "").rpartition(":")[0],
    )


def _state(folder: Path, frozen: FrozenTrial) -> str:
    if frozen.state == TrialState.COMPLETE:
        return "finished"
    if frozen.state == TrialState.PRUNED:
        return "pruned"
    if frozen.state == TrialState.FAIL:
        return frozen.user_attrs.get("outcome", "failed")
    worker = frozen.user_attrs.get("worker")
    return "running" if worker and is_alive(folder, worker) else "interrupted"


def _curve(frozen: FrozenTrial) -> dict[int, float]:
    return dict(sorted(frozen.intermediate_values.items()))


def _raise_if_hopeless(trials: list[FrozenTrial]) -> None:
    ended = [trial for trial in trials if trial.state.is_finished()]
    alike = [trial.user_attrs.get("alike", 0) for trial in ended]
    if alike and all(alike) and len(ended) >= min(alike):
        first = "the first trial has" if len(ended) == 1 else f"the first {len(ended)} trials have all"
        raise UserError(
            f"{first} ended with an error that others would meet, too; the last one: {ended[-1].user_attrs['reason']}",
            "correct that, then start the sweep anew in another --output-dir",
        )


def _raise_if_forgotten(folder: Path, recorded: int) -> None:
    """Refuse a sweep whose record was lost: new trials would meet the runs of earlier ones, and replace their results.

    A trial is recorded before its folder is made.
    """
    numbers = [int(path.name) for path in (folder / "trials").glob("[0-9]*") if path.name.isdecimal()]
    lost = sorted(number for number in numbers if number >= recorded)
    if lost:
        raise UserError(
            f"{folder / JOURNAL} has lost {counted(len(lost), 'trial')} whose runs are there, the first one in "
            f"{trial_folder(folder, lost[0])}",
            AFTER_LOSS,
        )


def _open(folder: Path) -> JournalStorage:
    """Raises: UserError: the record is damaged."""
    path = folder / JOURNAL
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}, the record of the sweep's trials, is damaged: {error}", AFTER_LOSS) from None


class _JournalLock:
    """The journal's lock; who takes it drops the half line that a full disk or a crash of any worker may have left.

    What was written behind that would be no line either, and nobody could read on.
    """

    def __init__(self, path: Path):
        self._journal, self._lease = path, Lease(path, JOURNAL_SECONDS)

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        self._lease.acquire()
        with open(self._journal, "rb+") as journal:
            journal.seek(max(journal.seek(0, os.SEEK_END) - 1, 0))
            if journal.read() not in (b"\n", b""):
                journal.seek(0)
                journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Let others have it."""
        self._lease.release()
