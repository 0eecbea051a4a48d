"""Where queries of a transformer look in the image."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
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
    """Weights over the cells of one feature map, or of several one after the other, as maps.

    Args:
        weights: `(B, heads, queries, keys)`.
        features: the feature maps by name, finest first, `(B, C, h, w)`.

    Returns:
        `(B, heads, queries, h, w)`, of the size of the finest feature map that was looked at, with equal sums; None
        if no feature maps have that number of cells.
    """
    sizes = [tuple(level.shape[-2:]) for level in features.values()]
    attended = _levels_of(weights.shape[-1], sizes)
    if not attended:
        return None
    parts = weights.split([height * width for height, width in attended], -1)
    maps = [part.unflatten(-1, size) for part, size in zip(parts, attended, strict=True)]
    return torch.stack([_spread(one, attended[0]) for one in maps]).sum(0)


def _levels_of(cells: int, sizes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sizes of the fewest consecutive levels that have that number of cells together."""
    for count in range(1, len(sizes) + 1):
        for start in range(len(sizes) - count + 1):
            chosen = sizes[start : start + count]
            if sum(height * width for height, width in chosen) == cells:
                return chosen
    return []


def _spread(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps `(B, heads, queries, h, w)` on a finer grid: each cell's weight goes to the cells in it alike."""
    if maps.shape[-2:] == size:
        return maps
    finer = F.interpolate(maps.flatten(0, 2)[:, None], size=size, mode="nearest")[:, 0].unflatten(0, maps.shape[:3])
    return finer * (maps.shape[-2] * maps.shape[-1] / (size[0] * size[1]))
