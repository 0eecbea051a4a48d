"""A detector as a function of one tensor that returns tensors, which is what can be traced."""

import contextlib
from collections.abc import Iterator

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import nn


class SingleImageDetector(nn.Module):
    """One image in, tensors out.

    Args:
        detector: a detectron2 model with `inference(batch, do_postprocess=False)`; put into evaluation mode.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """From `(3, H, W)`, 0..255, to boxes `(N, 4)`, scores `(N,)`, classes `(N,)`, and masks `(N, M, M)` if any."""
        [found] = self.detector.inference([{"image": image}], do_postprocess=False)
        outputs = (found.pred_boxes.tensor, found.scores, found.pred_classes)
        return (*outputs, found.pred_masks[:, 0]) if found.has("pred_masks") else outputs


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
