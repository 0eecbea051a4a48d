"""Evaluate during training."""

from detectron2.engine.train_loop import HookBase
from detectron2.evaluation.testing import flatten_results_dict


class Evaluation(HookBase):
    """Evaluate every `period` iterations and after the last one; the metrics go to the event storage.

    Args:
        period: in iterations; 0 evaluates after the last one only.
    """

    def __init__(self, period: int):
        self.period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done < self.trainer.max_iter and (self.period <= 0 or done % self.period):
            return
        results = self.trainer.evaluate(self.trainer.bare_model, self.trainer.iter)
        self.trainer.storage.put_scalars(**flatten_results_dict(results), smoothing_hint=False)
