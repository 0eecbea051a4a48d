"""Hooks that disturb a run at a given iteration."""

import shutil
import time
from pathlib import Path

import torch
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.engine.hooks.stop_signals import StopSignals
from xray_lazy.errors import UserError


class AtIteration(HookBase):
    def __init__(self, iteration: int):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            self.act()


class CrashAt(AtIteration):
    def act(self):
        raise ZeroDivisionError


class FailInOneProcessAt(AtIteration):
    """The last process fails, the others wait for it."""

    def act(self):
        if comm.get_rank() == comm.get_world_size() - 1:
            raise UserError("this process can't read its images", "buy a new disk")


class StopAt(AtIteration):
    """Only the last process is asked; all must stop."""

    def act(self):
        if comm.get_rank() == comm.get_world_size() - 1:
            self.trainer.request_stop("a test asked for it")


class TouchStopFileAt(AtIteration):
    def act(self):
        (Path(self.trainer.checkpointer.save_dir) / "stop").touch()
        time.sleep(StopSignals.LOOK_SECONDS)


class DeleteAt(AtIteration):
    """Something that writers write to goes away; with `for_ever`, a file can't be written again."""

    def __init__(self, iteration: int, name: str, for_ever: bool = True):
        super().__init__(iteration)
        self.name, self.for_ever = name, for_ever

    def act(self):
        path = Path(self.trainer.checkpointer.save_dir) / self.name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if path.suffix and self.for_ever:
            path.mkdir()  # nothing can be appended to it


class LoseFolderAt(AtIteration):
    """Somebody deletes the output folder, and a run of another machine begins there."""

    def act(self):
        folder = Path(self.trainer.checkpointer.save_dir)
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "training.claim1").write_text('{"machine": "other"}')


class PoisonAt(AtIteration):
    def act(self):
        with torch.no_grad():
            self.trainer.bare_model.roi_heads.box_predictor.cls_score.weight.fill_(float("nan"))
