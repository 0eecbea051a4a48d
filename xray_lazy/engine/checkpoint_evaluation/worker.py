"""One process that evaluates a run's checkpoints; any number of them share the work."""

import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from xray_lazy.data.loaders import explained_worker_death
from xray_lazy.engine.checkpoint_evaluation.leaving import LeaveOnSignal, Leaving
from xray_lazy.engine.checkpoint_evaluation.publication import Publication, training_evaluates
from xray_lazy.engine.checkpoint_evaluation.queue import CheckpointQueue, FileVersion, Result, iteration_by_name
from xray_lazy.engine.checkpoint_evaluation.run_config import await_config, choose_device, load_run_config
from xray_lazy.engine.checkpoint_evaluation.saved_training import SavedTraining
from xray_lazy.engine.determinism import set_determinism
from xray_lazy.engine.output_folder.run_log import TALKATIVE
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.out_of_memory import explained_out_of_memory

CLOSING_SECONDS = 120.0  # that training may take to send the rest of its numbers
JOB_SECONDS = 30.0  # each look is a call to a cluster's controller, which all its users share

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatorOptions:
    """How to go about it.

    Attributes:
        device: "auto", "cpu", "cuda" or "cuda:1".
        order: of waiting checkpoints the "oldest" or the "newest" first.
        follow: go on until training has ended; else evaluate what is there.
        timeout: seconds without news from a training that has not ended.
        poll: seconds between two looks for news.
    """

    device: str = "auto"
    order: str = "oldest"
    follow: bool = True
    timeout: float = 3600.0
    poll: float = 10.0


def evaluate_checkpoints(
    run_folder: str | os.PathLike,
    options: EvaluatorOptions,
    overrides: Sequence[str] = (),
    report: Callable[[str], None] = print,
    job_goes_on: Callable[[], bool | None] = lambda: None,
) -> None:
    """Evaluate the checkpoints of a run, beside its training or afterwards, until all are done or a signal comes.

    Args:
        run_folder: its output folder.
        options: see there.
        overrides: of the run's config, for this process.
        report: is given the lines for the console.
        job_goes_on: whether the training's job waits or runs; None where there is none, or it can't be told.

    Raises:
        UserError: the folder is of no run, something else has a name that a run writes to, or its config, data or the
            device are at fault.
        RunFailure: no news came from training for too long, and what is evaluated stays; or the folder was deleted.
    """
    folder = Path(run_folder)
    with LeaveOnSignal() as signals:
        try:
            device = choose_device(options.device)
            await_config(folder, options.follow, options.timeout, options.poll, report)
            RunFolder(folder).check()
            queue = CheckpointQueue(folder)
            was_there, was_open = queue.folder.exists(), queue.is_open()
            queue.open()  # before anything that takes time, in which training would delete its first checkpoints
            try:
                cfg = load_run_config(folder, overrides)
            except UserError:
                if not was_there:
                    shutil.rmtree(queue.folder)
                elif not was_open:
                    queue.close()
                raise
            if not (options.follow or was_open):
                queue.close()  # reading what is there must not block what comes later
            with _logging_to(queue.folder) as log, explained_out_of_memory(), explained_worker_death():
                if training_evaluates(cfg):
                    logger.warning(
                        "this run evaluates while it trains (hooks.evaluation): there the best weights are chosen and "
                        "early stopping is decided; here its curves get points; to leave all to this, train with "
                        "~hooks.evaluation"
                    )
                _Worker(cfg, device, queue, log, options, signals, report, job_goes_on).run()
        except Leaving as reason:
            report(f"left on {reason}; start again to go on")


class _Worker:
    """See `evaluate_checkpoints`."""

    def __init__(
        self,
        cfg: DictConfig,
        device: str,
        queue: CheckpointQueue,
        log: Path,
        options: EvaluatorOptions,
        signals: LeaveOnSignal,
        report: Callable[[str], None],
        job_goes_on: Callable[[], bool | None],
    ):
        self._options, self._queue, self._log, self._signals, self._report = options, queue, log, signals, report
        set_determinism(cfg.train.deterministic)
        self._training = SavedTraining(cfg, device)
        self._publication = Publication(cfg, queue, self._training)
        self._completion_end = 0.0
        self._count = 0  # of checkpoints that were evaluated here
        self._ask_for_job, self._job_goes_on, self._next_look = job_goes_on, None, 0.0
        self._news: tuple = ()
        self._news_time = time.monotonic()
        report(f"evaluating the checkpoints of {queue.run_folder.path} on {device}, the {options.order} first")

    def run(self) -> None:
        try:
            self._follow()
        except FileNotFoundError:
            self._check_folder()
            raise
        finally:
            with self._signals.uninterrupted():
                self._publication.close()

    def _check_folder(self) -> None:
        """Raises RunFailure where the queue's folder is no longer the one that this began with: without it no
        checkpoint would seem to wait, and a run that is there now may have another config."""
        if not self._log.exists():
            run_folder = self._queue.run_folder.path
            raise RunFailure(
                f"{self._queue.folder} was deleted while this evaluated the run in {run_folder}: another one may be "
                "there now",
                "start this again, for what is there",
            )

    def _follow(self) -> None:
        while True:
            self._check_folder()
            # before the look for checkpoints, which so finds the last one
            self._look_at_job()
            has_ended = self._queue.run_folder.has_ended() or self._job_goes_on is False
            self._queue.hold_new()
            self._publish()
            if self._evaluate_next():
                continue
            if not self._queue.waiting() and not self._queue.publishable():
                if (has_ended and self._complete()) or not (has_ended or self._options.follow):
                    break
                if not has_ended:
                    self._expect_news()
            time.sleep(self._options.poll)
        ending = "training has ended, and all is evaluated" if has_ended else "all that is there is evaluated"
        if unread := self._unread():
            ending += f", but for what can't be read: {', '.join(unread)}"
        if not self._count and any(not result.error for result in self._queue.results()):
            # overrides of this call have changed nothing
            ending += f"; nothing was left to do here: to evaluate all again, delete {self._queue.folder}"
        self._report(ending)

    def _unread(self) -> list[str]:
        """The run's checkpoints that were passed over, now or in an earlier call."""
        names = [f"{result.name}.pth" for result in self._queue.results() if result.error]
        return [name for name in names if (self._queue.run_folder.path / name).exists()]

    def _publish(self) -> None:
        with self._signals.uninterrupted():
            self._publication.publish()

    def _complete(self) -> bool:
        """False while the process of a training that has ended still has something to close."""
        with self._signals.uninterrupted():
            if self._publication.complete():
                return True
        self._completion_end = self._completion_end or time.monotonic() + CLOSING_SECONDS
        if time.monotonic() < self._completion_end:
            return False
        folder = self._queue.run_folder.path
        logger.warning(
            "W&B has not got the results: the training's own part of the run was not closed, it may have been killed; "
            "fix: python tools/sync.py %s, then start this again",
            folder,
        )
        return True

    def _evaluate_next(self) -> bool:
        """Evaluate the next checkpoint that nobody is at; False where there is none."""
        for name in self._in_order(self._queue.waiting()):
            with self._claimed(name) as is_mine:
                if is_mine and self._queue.result(name) is None:  # nobody was faster
                    self._evaluate(name)
            if is_mine:
                return True
        return False

    @contextmanager
    def _claimed(self, name: str) -> Iterator[bool]:
        """Claim a checkpoint, if nobody has; no signal comes between the claim and what frees it again."""
        claim = None
        try:
            with self._signals.uninterrupted():
                claim = self._queue.claims.take(name)
            yield claim is not None
        finally:
            if claim is not None:
                with self._signals.uninterrupted():
                    claim.release()

    def _evaluate(self, name: str) -> None:
        path = self._queue.held(name)
        try:
            version = FileVersion.of(path)
        except FileNotFoundError:
            return  # evaluated and published by another process meanwhile
        start = time.perf_counter()
        # a fault of these is none of the checkpoint, which would be passed over until it changes
        self._training.writers = self._publication.writers()
        try:
            self._training.load(path)
        except UserError as error:
            result = Result(name, version, iteration_by_name(name), error=error.message)
            logger.warning("%s.pth is passed over: %s", name, error.message)
        else:
            metrics = self._training.metrics()
            self._count += 1
            seconds = time.perf_counter() - start
            result = Result(name, version, self._training.iter, metrics, seconds=seconds)
        with self._signals.uninterrupted():
            self._queue.add(result)
        if not result.error:
            self._report(self._line(result))

    def _line(self, result: Result) -> str:
        """What was found, how long it took, and what is next."""
        figures = [f"{name} {value:.2f}" for name, value in result.metrics.items() if name.endswith("/AP")]
        figures = figures or [f"{name} {value:.4g}" for name, value in result.metrics.items()][:3]
        self._queue.hold_new()
        waiting = [name for name in self._queue.waiting() if not self._queue.claims.is_taken(name)]
        ended = "nothing more" if self._queue.run_folder.has_ended() else "what training saves next"
        following = f"{next(self._in_order(waiting))}.pth of {len(waiting)}" if waiting else ended
        return f"{result.name}.pth  {'  '.join(figures)}  {result.seconds:.1f} s  next: {following}"

    def _in_order(self, names: list[str]) -> Iterator[str]:
        return iter(names) if self._options.order == "oldest" else reversed(names)

    def _look_at_job(self) -> None:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + JOB_SECONDS
            self._job_goes_on = self._ask_for_job()

    def _expect_news(self) -> None:
        """Of a training that has not ended, the log grows; one that is dead and one that is queued again are silent."""
        if self._job_goes_on:
            return
        log = self._queue.run_folder.log()
        news = (log.stat().st_mtime_ns if log.exists() else None, len(self._queue.results()))
        if news != self._news:
            self._news, self._news_time = news, time.monotonic()
        elif time.monotonic() - self._news_time > self._options.timeout:
            minutes = f"{self._options.timeout / 60:g} minutes"
            raise RunFailure(
                f"no news from the training in {self._queue.run_folder.path} for {minutes}, and it has not ended; all "
                "its checkpoints are evaluated",
                "where it goes on later, start this again, or give a longer --timeout",
            )


@contextmanager
def _logging_to(folder: Path) -> Iterator[Path]:
    """Everything goes to a file of this machine, which is given, and warnings to the console as well."""
    root = logging.getLogger()
    level = root.level
    # a training in this process, in a notebook, has given handlers of its own to these
    named = [logging.getLogger(name) for name in ("xray_lazy", "detectron2", "fvcore")]
    before = [(each.handlers, each.propagate) for each in named]
    for each in named:
        each.handlers, each.propagate = [], True
    log = folder / f"log_{socket.gethostname()}.txt"
    to_file = logging.FileHandler(log, errors="backslashreplace")
    to_file.setFormatter(logging.Formatter("[%(asctime)s %(process)d] %(levelname)s %(name)s: %(message)s"))
    to_console = logging.StreamHandler(sys.stderr)
    to_console.setLevel(logging.WARNING)
    to_console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handlers = [to_file, to_console]
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield log
    finally:
        root.setLevel(level)
        for each, (of_training, propagate) in zip(named, before, strict=True):
            each.handlers, each.propagate = of_training, propagate
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
