"""Keep the weights with the best metric."""

import logging
import math

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """After an evaluation that was better than all before, write `<file_name>.pth` with the weights.

    Args:
        metric: as it is in the event storage, e.g. `segm/AP`.
        mode: "max" or "min".
        file_name: without its ending.

    Best value and iteration are in the checkpoints, so a resumed run goes on comparing.
    """

    def __init__(self, metric: str, mode: str = "max", file_name: str = "model_best"):
        self.metric, self.file_name = metric, file_name
        self.sign = {"max": 1, "min": -1}[mode]
        self.best_value: float | None = None
        self.best_iteration = -1

    def after_step(self) -> None:
        trainer = self.trainer
        value, iteration = trainer.storage.latest().get(self.metric, (math.nan, -1))
        if iteration != trainer.iter or not comm.is_main_process() or not self._is_better(value):
            return
        self.best_value, self.best_iteration = float(value), iteration
        content = {"model": trainer.bare_model.state_dict(), "iteration": iteration, self.metric: float(value)}
        trainer.checkpointer.write(self.file_name, content)
        logger.info("best %s so far: %.3f at iteration %d", self.metric, value, iteration)

    def _is_better(self, value: float) -> bool:
        return math.isfinite(value) and (self.best_value is None or self.sign * value > self.sign * self.best_value)

    def state_dict(self) -> dict:
        return {"best_value": self.best_value, "best_iteration": self.best_iteration}

    def load_state_dict(self, state_dict: dict) -> None:
        self.best_value, self.best_iteration = state_dict["best_value"], state_dict["best_iteration"]
