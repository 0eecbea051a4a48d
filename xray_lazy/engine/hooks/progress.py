"""Where the run is and how fast it goes: epoch, images seen, time, ETA."""

import time

import torch
from detectron2.engine.train_loop import HookBase


class Progress(HookBase):
    """Put `epoch`, `images_seen`, `time`, `data_time`, `images_per_second`, `eta_seconds`; on a GPU `max_memory_mb`.

    `time` is that of the step in seconds, without the other hooks; the ETA counts them by way of the wall clock.
    """

    def before_train(self) -> None:
        self._train_start = time.perf_counter()

    def before_step(self) -> None:
        self._step_start = time.perf_counter()

    def after_step(self) -> None:
        now, trainer = time.perf_counter(), self.trainer
        done = trainer.iter + 1
        step_time = now - self._step_start
        per_iteration = (now - self._train_start) / (done - trainer.start_iter)
        trainer.storage.put_scalars(
            smoothing_hint=False,
            epoch=trainer.images_seen / trainer.loader.epoch_length,
            images_seen=trainer.images_seen,
            eta_seconds=per_iteration * (trainer.max_iter - done),
        )
        trainer.storage.put_scalars(
            time=step_time, data_time=trainer.data_time, images_per_second=trainer.batch_size / step_time
        )
        if torch.cuda.is_available():
            memory = torch.cuda.max_memory_allocated() / 2**20
            trainer.storage.put_scalar("max_memory_mb", memory, smoothing_hint=False)
