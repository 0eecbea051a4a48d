"""Run a model over a loader and hand its outputs to evaluators, with speed and remaining time in the log."""

import datetime
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch import nn

from xray_lazy.evaluation.encoded_inference import encoding_masks
from xray_lazy.evaluation.protocols import TakesEncodedMasks
from xray_lazy.utils.wording import counted

# The first batches start the loader's workers and choose kernels: they say nothing about the speed to come.
WARM_UP_BATCHES = 3

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """Batches of dataset dicts, of known number."""

    def __iter__(self) -> Iterator[Sequence[dict]]: ...

    def __len__(self) -> int: ...


def run_inference(
    model: nn.Module,
    loader: Batches,
    evaluator: DatasetEvaluator | Sequence[DatasetEvaluator],
    progress: Callable[[int, int], None] | None = None,
    log_every: float = 10.0,
    is_unwanted: Callable[[], bool] = bool,
    in_time: Callable[[str, int], AbstractContextManager] = lambda name, number: nullcontext(),
) -> dict:
    """Evaluate `model` on all batches of `loader`; every process calls this with its share of the images.

    Args:
        model: takes a batch and returns one output per image; runs in eval mode without gradients and comes back in
            the modes it had, also where it fails. Where all evaluators take encoded masks, it gives such if it can, see
            `encoding_masks`.
        loader: batches of dataset dicts, of known length.
        evaluator: one or more; more must not give the same result names.
        progress: called after each batch with the numbers of batches done and in all.
        log_every: seconds between two lines in the log.
        is_unwanted: asked after each batch; once it is true, this process reads no more.
        in_time: around reading and working through each batch, with its name and number; may end a process in which one
            hangs.

    Returns:
        What the evaluators return on the main process, an empty dict on the others.

    Raises:
        InferenceStopped: `is_unwanted` was true on any process; raised on all of them, when all have stopped reading.
    """
    evaluators = [evaluator] if isinstance(evaluator, DatasetEvaluator) else list(evaluator)
    whole: Any = evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
    all_take_encoded = all(isinstance(one, TakesEncodedMasks) and one.takes_encoded_masks for one in evaluators)
    detect = encoding_masks(model) if all_take_encoded else model
    whole.reset()
    speed = _Speed(total=len(loader), log_every=log_every)
    logger.info("Evaluation starts: %s", counted(len(loader), "batch", "batches"))
    with evaluation_mode(model), torch.no_grad():
        waiting_since = time.perf_counter()
        batches = iter(loader)
        for done in itertools.count(1):
            with in_time("evaluation batch", done):
                inputs = next(batches, None)
                if inputs is None:
                    break
                loaded = time.perf_counter()
                outputs = detect(inputs)
                whole.process(inputs, outputs)
            now = time.perf_counter()
            speed.add(len(inputs), data_time=loaded - waiting_since, now=now)
            waiting_since = now
            if progress is not None:
                progress(done, len(loader))
            if is_unwanted():
                break
    speed.log_end()
    if any(comm.all_gather(is_unwanted())):
        raise InferenceStopped
    return whole.evaluate() or {}


class InferenceStopped(Exception):
    """An evaluation was asked to end before its last batch."""


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode, and each of its modules back into the mode it had, whatever happens.

    `model.train()` would not do: it would also change parts that are meant to stay in evaluation mode, such as a
    frozen backbone.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Speed:
    """Images per second since the warm-up, written to the log from time to time.

    Outputs are read by the evaluators, which waits for the device: the wall clock is right without extra waits.
    """

    def __init__(self, total: int, log_every: float):
        self.total, self.log_every = total, log_every
        self.start = self.last_log = time.perf_counter()
        self.measured_from = self.start
        self.batches = self.images = self.measured_batches = self.measured_images = 0
        self.data_time = 0.0

    def add(self, images: int, data_time: float, now: float) -> None:
        self.batches += 1
        self.images += images
        if self.batches <= min(WARM_UP_BATCHES, self.total - 1):
            self.measured_from = now
            return
        self.measured_batches += 1
        self.measured_images += images
        self.data_time += data_time
        if now - self.last_log >= self.log_every and self.batches < self.total:
            self.last_log = now
            seconds = (now - self.measured_from) / self.measured_batches
            logger.info(
                "Evaluated %d/%d batches, %.1f images/s, data %.3f s/batch, remaining %s",
                self.batches,
                self.total,
                self.measured_images / (now - self.measured_from),
                self.data_time / self.measured_batches,
                datetime.timedelta(seconds=round(seconds * (self.total - self.batches))),
            )

    def log_end(self) -> None:
        now = time.perf_counter()
        rate = self.measured_images / max(now - self.measured_from, 1e-9)
        took = datetime.timedelta(seconds=round(now - self.start))
        logger.info("Evaluated %s in %s, %.1f images/s per process", counted(self.images, "image"), took, rate)
