"""Convolutions that take over the batch norm behind them: in evaluation it is a factor and an offset per channel."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

FOLDABLE = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)


@torch.no_grad()
def fold_batch_norm(model: nn.Module) -> int:
    """Fold what can be folded, in place; outputs stay the same within float32's rounding.

    Found are detectron2's convolutions with a `norm`, and convolutions with their norm right behind them in an
    `nn.Sequential`. Norms that are in training mode or have no running statistics stay, as do layers in several places.

    Returns:
        The number of norms folded.
    """
    uses = Counter(id(child) for parent in model.modules() for child in parent.children())
    folded = 0
    for convolution, norm, holder, name in list(_pairs(model)):
        if uses[id(convolution)] > 1 or not _is_constant(norm) or norm.num_features != convolution.out_channels:
            continue
        _fold(convolution, norm)
        setattr(holder, name, None if holder is convolution else nn.Identity())
        folded += 1
    return folded


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module, nn.Module, str]]:
    """Convolution, its norm, and whose attribute of what name the norm is."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and isinstance(getattr(module, "norm", None), FOLDABLE):
            yield module, module.norm, module, "norm"
        if isinstance(module, nn.Sequential):
            children = list(module.named_children())
            for (_, first), (name, second) in pairwise(children):
                # a detectron2 convolution may apply more of its own: its norm or its activation
                if type(first) is nn.Conv2d and isinstance(second, FOLDABLE):
                    yield first, second, module, name


def _is_constant(norm: nn.Module) -> bool:
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    return not norm.training and norm.running_mean is not None


def _fold(convolution: nn.Conv2d, norm: nn.Module) -> None:
    convolution.weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.bias = bias.requires_grad_(False)
    convolution.weight.requires_grad_(False)
