"""Let the writers write."""

from detectron2.engine.train_loop import HookBase

from xray_lazy.tracking.writer import Writer


class WriteEvents(HookBase):
    """Call each writer every few iterations, and all of them after each evaluation and at the end.

    Args:
        period: in iterations, for writers that have none of their own.

    A writer with the period 0 writes after evaluations and at the end only. The hook comes after the others, so that
    what they measured in this step is written with it.
    """

    comes_last = 1

    def __init__(self, period: int):
        self.period = period

    def before_train(self) -> None:
        periods = ((one, one.period if isinstance(one, Writer) else None) for one in self.trainer.writers.values())
        self._periods = [(writer, self.period if period is None else period) for writer, period in periods]

    def after_step(self) -> None:
        trainer, done = self.trainer, self.trainer.iterations_done
        all_write = trainer.has_results or trainer.is_last_step
        trainer.has_results = False
        for writer, period in self._periods:
            if all_write or (period > 0 and done % period == 0):
                writer.write()
