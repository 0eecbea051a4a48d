"""Hooks that bring about what goes wrong on real machines."""

import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from tests.engine.hooks_for_tests import AtIteration


class KillAt(AtIteration):
    """The last process is killed, as by the kernel when memory runs out."""

    def act(self):
        if comm.get_rank() == comm.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)


class WaitAt(AtIteration):
    """Training goes on once there is a file, or the test's process is gone."""

    def __init__(self, iteration: int, file: str):
        super().__init__(iteration)
        self.file = Path(file)

    def act(self):
        while not self.file.exists() and multiprocessing.parent_process().is_alive():
            time.sleep(0.01)


class KillReaderAt(AtIteration):
    """One of the processes that read images is killed."""

    def act(self):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


class FullDiskFrom(AtIteration):
    """No file can grow beyond so many bytes."""

    def __init__(self, iteration: int, size: int):
        super().__init__(iteration)
        self.size = size

    def act(self):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


class FileForFolderAt(AtIteration):
    """Something else takes the place of a folder of the run, which can't be written to any more."""

    def __init__(self, iteration: int, folder: str):
        super().__init__(iteration)
        self.folder = Path(folder)

    def act(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.touch()


class NotFiniteAt(AtIteration):
    """The features of one step are NaN, and with them the statistics of batch norm."""

    def act(self):
        stem = self.trainer.bare_model.backbone.bottom_up.stem
        self._handle = stem.register_forward_pre_hook(lambda module, inputs: (inputs[0] * torch.nan,))

    def after_step(self):
        if self.trainer.iter == self.iteration:
            self._handle.remove()


class FinishAt(AtIteration):
    """Training is complete before its time."""

    def act(self):
        self.trainer.request_stop("it is good enough", finish=True)


class WantTooMuchAt(AtIteration):
    """A step that asks for more memory than any machine has."""

    def act(self):
        torch.empty(2**55, dtype=torch.uint8)


class EvaluatorWithoutMemory(DatasetEvaluator):
    """An evaluation that asks for more memory than any machine has."""

    def __init__(self, **arguments):
        pass

    def reset(self):
        torch.empty(2**55, dtype=torch.uint8)
