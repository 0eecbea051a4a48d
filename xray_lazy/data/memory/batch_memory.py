"""Where a batch is: in memory that a GPU reads by itself, then on the GPU, without the host waiting for either."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints

from xray_lazy.data.masks.placed_masks import PlacedMasks


class PinnableBatch:
    """A batch of dataset dicts on its way through a DataLoader, whose pinning thread calls `pin_memory`."""

    def __init__(self, samples: list[dict]):
        self.samples = samples

    def pin_memory(self) -> "PinnableBatch":
        return PinnableBatch(_on_tensors(self.samples, torch.Tensor.pin_memory))


def to_device(batch: list[dict], device: torch.device) -> list[dict]:
    """The batch with its tensors, also those of instances, on `device`; on the CPU the batch itself.

    The host waits for no copy of what is in pinned memory, nor for any small one, and the copies wait for nothing that
    a GPU still computes. What is of another kind than detectron2's structures stays where it is: the model moves it, as
    it would move all.
    """
    if device.type == "cpu":
        return batch
    if device.type != "cuda":
        return _moved(batch, device)
    copying, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        moved = _moved(batch, device)
    computing.wait_stream(copying)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        tensor.record_stream(computing)  # else its memory could be given away while it is still read there
        return tensor

    return _on_tensors(moved, keep)


def _moved(batch: list[dict], device: torch.device) -> list[dict]:
    return _on_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _on_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value` with `function` applied to all tensors in it."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, list):
        return [_on_tensors(item, function) for item in value]
    if isinstance(value, dict):
        return {name: _on_tensors(item, function) for name, item in value.items()}
    if isinstance(value, Instances):
        return Instances(value.image_size, **_on_tensors(value.get_fields(), function))
    if isinstance(value, PlacedMasks):
        return value.on_tensors(function)
    if isinstance(value, BitMasks):
        return BitMasks(function(value.tensor))
    if isinstance(value, Boxes | Keypoints):
        return type(value)(function(value.tensor))
    return value
