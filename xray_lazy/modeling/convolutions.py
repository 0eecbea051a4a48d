"""Convolutions that cost less in training: with the frozen norm behind them, and depthwise ones on a CPU."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def join_frozen_norms(network: nn.Module, norms: tuple[type[nn.Module], ...]) -> int:
    """Let convolutions apply the frozen norm that comes next: no pass over the feature map is left for it.

    Weights keep their names and gradients, outputs are the same within rounding. Norms keep their activation.

    Args:
        network: of timm, whose blocks have convolutions and norms in the order in which they are used.
        norms: classes of batch norm with fixed statistics and factors.

    Returns:
        How many norms were joined.
    """
    pairs = list(_pairs(network, norms))
    for convolution, norm in pairs:
        convolution.__class__ = _derived(_WithNorm, convolution)
        convolution.frozen_norm = (norm,)  # in a tuple, it stays no child but of its parent
        norm.__class__ = _derived(_ActivationAlone, norm)
    return len(pairs)


def keep_depthwise_in_float32(model: nn.Module) -> None:
    """Exempt depthwise convolutions from autocast where a CPU is slow at their gradient in half precision.

    That of filters takes three to six times as long as in float32, and that of what goes into a convolution with a
    stride some twenty times. Everything else takes a half or less.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.__class__ = _derived(_InFloat32, module)


def _pairs(network: nn.Module, norms: tuple[type[nn.Module], ...]) -> Iterator[tuple[nn.Conv2d, nn.Module]]:
    for parent in network.modules():
        for convolution, norm in pairwise(child for child in parent.children() if not isinstance(child, nn.Identity)):
            is_pair = isinstance(convolution, nn.Conv2d) and isinstance(norm, norms)
            if is_pair and norm.running_mean.shape == (convolution.out_channels,):
                yield convolution, norm


def _derived(behaviour: type, module: nn.Module) -> type:
    """The module's class with another behaviour, as `torch.nn.utils.parametrize` derives it."""
    return type(type(module).__name__, (behaviour, type(module)), {})


class _WithNorm(nn.Conv2d):
    frozen_norm: tuple[Any]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        (norm,) = self.frozen_norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        offset = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            offset = offset + self.bias * scale
        padding = self.padding
        if type(self).__name__ == "Conv2dSame":  # of timm, as TensorFlow pads
            from timm.layers import pad_same

            input = pad_same(input, self.kernel_size, self.stride, self.dilation)
        weight = self.weight * scale[:, None, None, None]
        return F.conv2d(input, weight, offset, self.stride, padding, self.dilation, self.groups)


class _ActivationAlone(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # torchvision's has none
        return self.act(self.drop(x)) if hasattr(self, "act") else x


class _InFloat32(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        is_slow = self.weight.requires_grad or (input.requires_grad and max(self.stride) > 1)
        if not (is_slow and torch.is_grad_enabled()):
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
