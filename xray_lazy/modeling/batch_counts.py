"""What sums of losses are divided by: counts of the whole batch, over its processes and micro-batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from xray_lazy.modeling.world_size import world_size

_current: ContextVar["MicroBatches | None"] = ContextVar("micro_batches", default=None)


def mean_count(count: float | torch.Tensor, device: torch.device, minimum: float = 1.0) -> torch.Tensor:
    """The mean over processes of what is counted in the local images; over micro-batches, too, where there are some.

    A loss that is a sum divided by it has, as a mean over processes and micro-batches, the value that one process with
    the whole batch has. All processes must call it in the same order.

    Args:
        count: a number, or a tensor of some.
        minimum: of the count of the whole batch, which may have nothing to count.
    """
    # the host does not wait for a GPU to take the number
    own = torch.as_tensor(count, dtype=torch.float32).to(device, non_blocking=True)
    micro_batches = _current.get()
    if micro_batches is None:
        total, share = own.clone(), 1.0
        if world_size() > 1:
            torch.distributed.all_reduce(total)
    else:
        total, share = micro_batches.total(own), micro_batches.share
    return total.clamp(min=minimum) * (share / world_size())


def is_counting() -> bool:
    """Whether nothing but the calls of `mean_count` matters: a model may leave out what comes behind them."""
    micro_batches = _current.get()
    return micro_batches is not None and micro_batches.is_counting


def is_whole_batch() -> bool:
    """Whether the present images are all that there are: no other process or micro-batch has some."""
    return world_size() == 1 and _current.get() is None


def images_before() -> int:
    """How many images this process has in the micro-batches before the present one."""
    micro_batches = _current.get()
    return micro_batches.images_before if micro_batches is not None else 0


class MicroBatches:
    """A process's part of a batch, worked through piece by piece with the losses of the whole.

    What losses are divided by must be known before the first of them is made, so a forward pass of each micro-batch by
    way of `count` comes first. The losses under `part`, each times its `share`, add up to those of the whole batch.

    Args:
        batch: of this process.
        size: images in a micro-batch; the last one may have fewer.
    """

    def __init__(self, batch: Sequence[dict], size: int):
        self.parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        self.is_counting = False
        self.share, self.images_before = 1.0, 0
        self._images = len(batch)
        self._counts: list[torch.Tensor] = []  # one for each call of `mean_count`, over all micro-batches
        self._calls = 0

    def count(self, run: Callable[[int], Any]) -> bool:
        """Find out what there is to count; whether anything is. All processes must call it together.

        Args:
            run: the model with the micro-batch of this number, as it will be run later; losses are of no interest.
        """
        self.is_counting = True
        for number in range(len(self.parts)):
            with self.part(number):
                run(number)
        self.is_counting = False
        if self._counts and world_size() > 1:
            total = torch.cat([count.flatten() for count in self._counts])
            torch.distributed.all_reduce(total)
            parts = total.split([count.numel() for count in self._counts])
            self._counts = [part.view_as(count) for part, count in zip(parts, self._counts, strict=True)]
        return bool(self._counts)

    @contextmanager
    def part(self, number: int) -> Iterator[list[dict]]:
        """Around the forward pass of a micro-batch, which it gives."""
        self._calls = 0
        self.share = len(self.parts[number]) / self._images
        self.images_before = sum(map(len, self.parts[:number]))
        token = _current.set(self if len(self.parts) > 1 else None)
        try:
            yield self.parts[number]
        finally:
            _current.reset(token)

    def total(self, count: torch.Tensor) -> torch.Tensor:
        """The count of the whole batch that is asked for next; while counting, some number."""
        place, self._calls = self._calls, self._calls + 1
        if self.is_counting:
            if place < len(self._counts):
                self._counts[place] = self._counts[place] + count
            else:
                self._counts.append(count.clone())
            return count
        if place >= len(self._counts):
            raise RuntimeError("mean_count is called more often than in the first pass: each pass must do so alike")
        return self._counts[place]
