"""A detector as a function of tensors that returns tensors, which is what can be traced."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import nn

from xray_lazy.export.batched_rcnn import BatchedRCNN, can_be_batched


class SingleImageDetector(nn.Module):
    """One image in, tensors out: of any detector.

    Args:
        detector: a detectron2 model with `inference(batch, do_postprocess=False)`; put into evaluation mode.
    """

    takes_batches = False

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From `(3, H, W)`, 0..255, to boxes `(N, 4)`, scores `(N,)`, classes `(N,)`, and masks `(N, M, M)` if any."""
        [found] = self.detector.inference([{"image": image}], do_postprocess=False)
        outputs = (found.pred_boxes.tensor, found.scores, found.pred_classes)
        return (*outputs, found.pred_masks[:, 0]) if found.has("pred_masks") else outputs


class BatchedDetector(nn.Module):
    """Several images in, tensors out: of a detector that does so itself, by `inference_of_tensors(images, sizes)`.

    Its arguments and outputs are those of `BatchedRCNN`.
    """

    takes_batches = True

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector: Any = detector
        self.eval()

    def forward(self, images: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.detector.inference_of_tensors(images, sizes)


def exportable(model: nn.Module, takes_batches: bool) -> nn.Module:
    """A detector in the form that is traced: of batches where that is wanted and known how to do."""
    if takes_batches and hasattr(model, "inference_of_tensors"):
        return BatchedDetector(model)
    return BatchedRCNN(model) if takes_batches and can_be_batched(model) else SingleImageDetector(model)


@contextlib.contextmanager
def traceable() -> Iterator[None]:
    """Inside of it, detectron2 keeps lengths open, and attention is done by operators that the formats have."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), patch_builtin_len():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
