"""Save everything that a resumed run needs, at regular intervals."""

from pathlib import Path

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.engine.checkpoint_evaluation.queue import keep_for_evaluator
from xray_lazy.run_folder import FINAL, RunFolder, checkpoint_name, iteration_of


class PeriodicCheckpoint(HookBase):
    """Write `model_<iteration>.pth` every `period` iterations and where training ends, and `model_final.pth` when done.

    Args:
        period: in iterations.
        max_to_keep: how many of the newest periodic files stay; 0 keeps all. One that is still to be evaluated beside
            training stays in the folder `evaluator/` until it is.
        keep_every: in iterations; the first file at or after each multiple stays for good; 0 for none.

    What is to be evaluated is saved before, at any iteration; when its evaluation is done, it is saved once more, or
    deleted where no checkpoint is due.

    It comes after the hooks whose state it saves, and after the writers: no line is lost between the two.
    """

    comes_last = 2

    def __init__(self, period: int, max_to_keep: int = 0, keep_every: int = 0):
        self.period, self.max_to_keep, self.keep_every = period, max_to_keep, keep_every
        self._saved_before_evaluation, self._resumed_from_before = -1, ""

    def after_step(self) -> None:
        trainer = self.trainer
        is_due = trainer.iterations_done % self.period == 0 or trainer.is_last_step
        if is_due:
            self._save()
            if self.max_to_keep and comm.is_main_process():
                self._delete_old()
        elif self._saved_before_evaluation == trainer.iter and comm.is_main_process():
            self._delete_saved_before_evaluation()

    def save_before_evaluation(self) -> None:
        checkpointer = self.trainer.checkpointer
        self._saved_before_evaluation = self.trainer.iter
        self._resumed_from_before = checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""
        self._save()

    def _save(self) -> None:
        trainer = self.trainer
        trainer.checkpointer.save(self._name(), iteration=trainer.iter)

    def _name(self) -> str:
        return FINAL if self.trainer.has_trained_all else checkpoint_name(self.trainer.iter)

    def _delete_saved_before_evaluation(self) -> None:
        folder = RunFolder(self.trainer.checkpointer.save_dir)
        if self._resumed_from_before:
            self.trainer.checkpointer.tag_last_checkpoint(Path(self._resumed_from_before).name)
        else:
            folder.last.unlink()
        folder.checkpoint(self._name()).unlink()

    def _delete_old(self) -> None:
        checkpointer = self.trainer.checkpointer
        # not the newest by its number, where a damaged one of a higher number was passed over on resuming
        saved_now = Path(checkpointer.get_checkpoint_file())
        for path in RunFolder(checkpointer.save_dir).periodic()[self.max_to_keep :]:
            if path.name != saved_now.name and not self._stays(path):
                keep_for_evaluator(path)
                path.unlink(missing_ok=True)

    def _stays(self, path: Path) -> bool:
        done = (iteration_of(path.name) or 0) + 1
        if not self.keep_every or done % self.period:
            return False
        return done // self.keep_every > (done - self.period) // self.keep_every
