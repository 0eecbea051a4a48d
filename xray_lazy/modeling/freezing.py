"""Freeze parts of a model by the patterns of their names."""

import types
from collections.abc import Sequence

from torch import nn

from xray_lazy.modeling.name_patterns import check_patterns, matches


def freeze(model: nn.Module, patterns: Sequence[str], key: str = "train.freeze") -> None:
    """Train no parameter that a pattern means, and keep the layers there in evaluation mode for good.

    So batch norm keeps its statistics and dropout is off in frozen parts, also after `model.train()`. Parts that are
    made of layers, such as a head, follow `model.train()`: it decides whether they give losses or detections.

    Args:
        patterns: see `name_patterns.matches`.
        key: of the patterns in the config, for messages.

    Raises:
        UserError: a pattern means no parameter.
    """
    check_patterns(patterns, model, key)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if any(matches(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)
    for name, module in model.named_modules():
        if _is_layer(module) and any(matches(pattern, name) for pattern in patterns):
            module.eval()
            module.train = types.MethodType(_stay, module)  # a method, so that a deep copy's is the copy's own


def _is_layer(module: nn.Module) -> bool:
    # attention has a child, its last projection, and applies dropout itself
    return isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())


def _stay(self: nn.Module, mode: bool = True) -> nn.Module:
    return self
