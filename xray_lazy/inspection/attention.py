"""Where queries of a transformer look in the picture."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def recorded_attention(model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Weights of all `nn.MultiheadAttention` that attend to something else than their queries, while the block runs.

    Yields:
        by module name, in the order of the calls: `(B, heads, queries, keys)`, summing to 1 over the keys.
    """
    found: dict[str, torch.Tensor] = {}
    handles = []

    def ask(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, {**kwargs, "need_weights": True, "average_attn_weights": False}

    def keep(name: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
            query, key = args[0], args[1] if len(args) > 1 else kwargs["key"]
            if query is not key:
                found[name] = output[1].detach()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            handles.append(module.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(module.register_forward_hook(keep(name), with_kwargs=True))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def attention_maps(weights: torch.Tensor, features: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """Weights over the cells of a feature map as maps.

    Args:
        weights: `(B, heads, queries, keys)`.
        features: the feature maps by name, `(B, C, h, w)`.

    Returns:
        `(B, heads, queries, h, w)`; None where no feature map has so many cells.
    """
    for level in features.values():
        if level.shape[-2] * level.shape[-1] == weights.shape[-1]:
            return weights.unflatten(-1, level.shape[-2:])
    return None
