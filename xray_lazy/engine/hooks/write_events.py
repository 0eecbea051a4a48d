"""Let the writers write."""

from detectron2.engine.train_loop import HookBase


class WriteEvents(HookBase):
    """Call every writer each `period` iterations, after each evaluation, and at the end.

    Args:
        period: in iterations.

    It comes after the others, so that what other hooks measured in this step is written with it.
    """

    comes_last = 1

    def __init__(self, period: int):
        self.period = period

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period == 0 or self.trainer.is_last_step or self._was_evaluated():
            for writer in self.trainer.writers.values():
                writer.write()

    def _was_evaluated(self) -> bool:
        latest = self.trainer.storage.latest()
        new = (name for name, (_, iteration) in latest.items() if iteration == self.trainer.iter)
        return any(name.endswith(("/AP", "/total_loss")) for name in new)
