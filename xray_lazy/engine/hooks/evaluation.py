"""Evaluate during training."""

from detectron2.engine.train_loop import HookBase
from detectron2.evaluation.testing import flatten_results_dict


class Evaluation(HookBase):
    """Evaluate every `period` iterations and after the last one; the metrics go to the event storage.

    Args:
        period: in iterations; 0 evaluates after the last one only.
    """

    gives_metrics = 4

    def __init__(self, period: int):
        self.period = period

    def after_step(self) -> None:
        trainer = self.trainer
        if not trainer.is_finished and (self.period <= 0 or trainer.iterations_done % self.period):
            return
        trainer.save_before(self)
        for suffix, model in trainer.evaluated_models.items():
            results = trainer.evaluate(model, trainer.iter, suffix)
            trainer.put_results(flatten_results_dict(results))
