"""Batch norm with the statistics of all processes: several train the model that one with the whole batch trains."""

import logging

import torch
from detectron2.layers import NaiveSyncBatchNorm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xray_lazy.modeling.world_size import world_size

logger = logging.getLogger(__name__)


class SyncBatchNorm(_BatchNorm):
    """torch's `nn.SyncBatchNorm` on GPUs, and the same elsewhere, which that refuses."""

    process_group = None  # all processes
    _check_input_dim = nn.SyncBatchNorm._check_input_dim
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    @torch.compiler.disable  # so that what is compiled around it is the same with and without other processes
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        if input.is_cuda:
            # of an empty part torch sends statistics in its type, of others in float32, and half of them don't fit
            return nn.SyncBatchNorm.forward(self, input if input.numel() else input.float())
        self._check_input_dim(input)
        places = [0, *range(2, input.dim())]
        values = input.float()
        own = torch.cat([values.sum(places), values.new_full((1,), values[:, 0].numel())])
        total = differentiable_all_reduce(own)
        there = total[-1].detach()  # none, where it is in a head and no image has an object
        count = there.clamp(min=1)
        mean = total[:-1] / count
        # not from mean squares, which cancel where the mean is large
        deviations = values - _per_channel(mean, input)
        variance = differentiable_all_reduce(deviations.square().sum(places)) / count
        if self.track_running_stats and there > 0:
            self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normed = deviations * _per_channel((variance + self.eps).rsqrt(), input)
        if self.affine:
            normed = normed * _per_channel(self.weight, input) + _per_channel(self.bias, input)
        return normed.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self.num_batches_tracked.add_(1)
        weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class SyncBatchNormAct(SyncBatchNorm):
    """timm's batch norm with an activation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(input)))


# of subclasses one can't know what else they do
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, NaiveSyncBatchNorm, nn.SyncBatchNorm)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Let each batch norm of a model take the statistics of all processes, in place; names and weights stay.

    Of processes that each keep running statistics of their own, those of the first would be evaluated and saved.
    Layers of a kind that is not known stay as they are, with a warning.
    """
    unknown = set()
    for layer in model.modules():
        if not isinstance(layer, _BatchNorm) or isinstance(layer, SyncBatchNorm):
            continue
        if type(layer) in PLAIN:
            layer.__class__ = SyncBatchNorm
        elif type(layer).__name__ == "BatchNormAct2d":
            layer.__class__ = SyncBatchNormAct
        else:
            unknown.add(type(layer).__name__)
    for name in sorted(unknown):
        logger.warning("each process may keep its own batch norm statistics in %s, a kind that is not known", name)


def _per_channel(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))
