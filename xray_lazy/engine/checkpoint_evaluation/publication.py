"""Put results into the run's curves in the order of training, keep the best weights, and end training early."""

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig, OmegaConf

from xray_lazy.engine.checkpoint_evaluation.queue import CheckpointQueue, Result
from xray_lazy.engine.checkpoint_evaluation.saved_training import SavedTraining
from xray_lazy.engine.output_folder.claims import Claim
from xray_lazy.errors import UserError
from xray_lazy.run_folder import FINAL
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.unfailing import UnfailingWriter
from xray_lazy.tracking.writer import Writer, WritesAfterTraining
from xray_lazy.utils.atomic_file import write_text

CLAIM = "publication"

logger = logging.getLogger(__name__)


class Publication:
    """The part of one process in publishing; of several, the first one publishes until it ends.

    Args:
        cfg: of the run.
        queue: with the results of all processes.
        training: takes the weights that hooks keep.
    """

    def __init__(self, cfg: DictConfig, queue: CheckpointQueue, training: SavedTraining):
        self._cfg, self._queue, self._training = cfg, queue, training
        self._claim: Claim | None = None
        self._writers: dict[str, Writer] | None = None
        self._last_iteration = -1
        self._stop_reason = ""
        self._hooks_judge = not training_evaluates(cfg)

    def publish(self) -> None:
        """Publish what can be, where no other process does it."""
        if self._claim is None:
            self._claim = self._queue.claims.take(CLAIM)
            if self._claim is None:
                return
            if self._hooks_judge and (states := self._states_before(None)):
                self._training.judge({}, states)  # an evaluator that was ended may not have come to tell training
                self._stop_reason = self._training.stop_reason
        for result in self._queue.publishable():
            self._publish(result)
        self._ask_to_stop()

    def writers(self) -> dict[str, Writer]:
        """Those of the run's writers that can add to it; none where another process publishes."""
        if self._writers is None and self._claim is not None:
            run = RunRecord.collect(self._cfg, resumed=True)
            writers = {name: UnfailingWriter(name, writer) for name, writer in self._new_writers().items()}
            self._writers = {name: writer for name, writer in writers.items() if writer.join(run)}
        return self._writers or {}

    def complete(self) -> bool:
        """Once training has ended, publish by the writers that can't add to a run in training; False: it is too early.

        W&B's runs have one writer at a time; a later one goes on where the training's own has ended.
        """
        published = [result for result in self._queue.results() if result.is_published]
        given = [[result.name, result.file.modified_ns] for result in published]
        if self._claim is None or not published or self._queue.read_completed() == given:
            return True
        run_file = self._queue.run_folder.record
        run = RunRecord.read(run_file) if run_file.exists() else RunRecord.collect(self._cfg)
        run.output_dir = str(self._queue.run_folder.path)
        late = [writer for writer in self._new_writers().values() if isinstance(writer, WritesAfterTraining)]
        if not all(writer.has_ended(run) for writer in late):
            return False
        for writer in late:
            writer.start_after(run)
            for result in published:
                with EventStorage(result.iteration) as storage:
                    storage.put_scalars(**result.metrics, **self._axes(result.iteration), smoothing_hint=False)
                    writer.write()
            writer.close()
        self._queue.write_completed(given)
        return True

    def close(self) -> None:
        """Let another process publish."""
        self._close_writers()
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _publish(self, result: Result) -> None:
        if result.iteration <= self._last_iteration:  # training does a part again, and writers look ahead only
            self._close_writers()
        self._last_iteration = result.iteration
        with EventStorage(result.iteration) as storage:
            storage.put_scalars(**result.metrics, smoothing_hint=False)
            result.hooks = self._states_before(result)
            if self._hooks_judge and self._counts(result):
                self._judge(result, storage)
            for writer in self.writers().values():
                writer.write()
        self._queue.set_published(result)

    def _judge(self, result: Result, storage: EventStorage) -> None:
        training = self._training
        try:
            training.load(self._queue.held(result.name))
        except (UserError, FileNotFoundError) as error:
            logger.warning("%s.pth is gone before its metrics were judged: %s", result.name, error)
            return
        training.storage = storage
        result.hooks = training.judge(result.metrics, result.hooks)
        self._stop_reason = training.stop_reason

    def _counts(self, result: Result) -> bool:
        """Not what a stop has left between two periods: evaluation inside training is not there, either."""
        return result.name == FINAL or (result.iteration + 1) % self._cfg.train.checkpointer.period == 0

    def _states_before(self, result: Result | None) -> Mapping[str, Any]:
        """The states of hooks at the last published result before this one, or of all."""
        published = [r for r in self._queue.results() if r.is_published]
        earlier = [r for r in published if result is None or r.iteration < result.iteration]
        return earlier[-1].hooks if earlier else {}

    def _close_writers(self) -> None:
        for writer in (self._writers or {}).values():
            writer.close()
        self._writers = None

    def _new_writers(self) -> dict[str, Writer]:
        return {name: instantiate(writer) for name, writer in self._cfg.writers.items()}

    def _axes(self, iteration: int) -> dict[str, float]:
        """Epoch and images seen after an iteration, from what training has logged next to it."""
        lines = [line for line in self._queue.run_folder.read_metrics() if "epoch" in line]
        line = next((line for line in lines if line["iteration"] >= iteration), lines[-1] if lines else None)
        share = (iteration + 1) / (line["iteration"] + 1) if line else 0.0
        return {name: share * line[name] for name in ("epoch", "images_seen") if line and name in line}

    def _ask_to_stop(self) -> None:
        """By the file `stop`, again and again: a training that is started deletes it."""
        stop = self._queue.run_folder.stop
        if self._stop_reason and not stop.exists() and not self._queue.run_folder.has_ended():
            write_text(stop, f"{self._stop_reason}\n")
            logger.warning("told training to end: %s", self._stop_reason)


def training_evaluates(cfg: DictConfig) -> bool:
    """Whether a run evaluates while it trains, so that its own hooks judge the metrics."""
    period = OmegaConf.select(cfg, "hooks.evaluation.period")
    return period is not None and period > 0
