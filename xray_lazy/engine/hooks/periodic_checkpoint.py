"""Save everything that a resumed run needs, every so many iterations."""

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.engine.checkpoint import periodic_files


class PeriodicCheckpoint(HookBase):
    """Write `model_<iteration>.pth` every `period` iterations and where training ends, and `model_final.pth` when done.

    Args:
        period: in iterations.
        max_to_keep: so many of the newest periodic files stay; None keeps all.

    It stands after the hooks whose state it saves.
    """

    def __init__(self, period: int, max_to_keep: int | None = None):
        self.period, self.max_to_keep = period, max_to_keep

    def after_step(self) -> None:
        trainer = self.trainer
        if trainer.is_finished:
            trainer.checkpointer.save("model_final", iteration=trainer.iter)
        elif trainer.iterations_done % self.period == 0 or trainer.is_last_step:
            trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)
        else:
            return
        if self.max_to_keep and comm.is_main_process():
            for path in periodic_files(trainer.checkpointer.save_dir)[self.max_to_keep :]:
                path.unlink(missing_ok=True)
