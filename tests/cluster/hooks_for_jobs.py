"""Hooks that make a job wait for what a test does to it."""

import time
from pathlib import Path

from detectron2.engine.train_loop import HookBase

DEADLINE_SECONDS = 600


class HoldAt(HookBase):
    """The first start of a run stays before an iteration until it is asked to stop; a file tells that it is there."""

    def __init__(self, iteration: int):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter != self.iteration or self.trainer.start_iter > 0:
            return
        (Path(self.trainer.checkpointer.save_dir) / "held").touch()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self.trainer._wish_to_stop and time.monotonic() < deadline:
            time.sleep(0.05)
