"""The layers of a detector in half precision; boxes, scores and what is pooled between them stay in float32."""

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

PARTS = ("backbone", "proposal_generator.rpn_head", "roi_heads.box_head", "roi_heads.mask_head")


def compute_in(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model itself: those of `PARTS` that it has compute in `dtype`, and take and give float32.

    In half precision the corners of boxes would move by pixels. For inference: weights are changed.
    """
    for name in PARTS:
        try:
            part = model.get_submodule(name)
        except AttributeError:
            continue
        for layers in part if isinstance(part, nn.ModuleList) else [part]:  # of a cascade
            layers.to(dtype)
            layers.register_forward_pre_hook(lambda _, arguments: tree_map(_as(dtype), arguments))
            layers.register_forward_hook(lambda _, arguments, outputs: tree_map(_as(torch.float32), outputs))
    return model


def _as(dtype: torch.dtype) -> Any:
    def converted(value: Any) -> Any:
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if is_float else value

    return converted
