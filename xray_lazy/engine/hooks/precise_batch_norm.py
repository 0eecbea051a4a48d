"""Statistics of batch norm that belong to the present weights."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xray_lazy.engine.beside_training import beside_training
from xray_lazy.engine.processes.step_limit import each_in_time

logger = logging.getLogger(__name__)


class PreciseBatchNorm(HookBase):
    """Replace batch norm's running averages by means over training batches, before evaluation and checkpoint.

    Running averages are those of weights that have changed since: a model is evaluated with other statistics than it
    has (Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021). Layers that are frozen stay as they are.

    Args:
        num_batches: training batches to average over, the first ones of the run at each call; 0 switches it off.
        periods: in iterations; those of what needs the statistics. After the last iteration they are always computed.

    Training does not notice: in training batch norm takes the batch's own statistics. It goes before these hooks.
    """

    gives_metrics = 1

    def __init__(self, num_batches: int = 0, periods: Sequence[int] = ()):
        self.num_batches, self.periods = num_batches, tuple(periods)

    def after_step(self) -> None:
        trainer = self.trainer
        is_due = any(period > 0 and trainer.iterations_done % period == 0 for period in self.periods)
        if self.num_batches <= 0 or not (is_due or trainer.is_finished):
            return
        # what is evaluated, and what is saved
        for model in dict.fromkeys([*trainer.evaluated_models.values(), trainer.bare_model]):
            if layers := batch_norm_layers(model):
                with beside_training(model), trainer.precision.autocast():
                    update_statistics(model, layers, islice(trainer.loader.batches(0), self.num_batches))
                logger.info("%d batch norm layers took statistics of %d batches", len(layers), self.num_batches)


def batch_norm_layers(model: nn.Module) -> list[_BatchNorm]:
    """The layers of a model that gather statistics now: they are in training mode and keep running averages."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [layer for layer in layers if layer.training and layer.running_mean is not None]


@torch.no_grad()
def update_statistics(model: nn.Module, layers: Sequence[_BatchNorm], batches: Iterator[list[dict]]) -> None:
    """Set the statistics of `layers` to those of all `batches` of all processes together, each batch alike.

    Args:
        model: in training mode.
        layers: of the model. One that is called more than once per batch gets the statistics of all calls.
        batches: of this process; equally many in all.

    The variance is that within batches plus that of their means: the whole population's.
    """
    # calls, sum of the means, sum of the mean squares
    sums = {layer: _statistics(layer)[0].new_zeros(1 + 2 * layer.num_features, dtype=torch.float64) for layer in layers}

    def add(layer: _BatchNorm, *_) -> None:
        mean, variance = (value.double() for value in _statistics(layer))
        sums[layer] += torch.cat([mean.new_ones(1), mean, variance + mean**2])

    # for another momentum and these hooks, what is compiled would be so anew
    with _statistics_of_last_batch(layers, add), torch.compiler.set_stance("force_eager"):
        for batch in each_in_time("batch for the batch norm", batches):
            model(batch)
    for layer, total in sums.items():
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(total)
        if total[0]:
            mean, mean_square = (total[1:] / total[0]).chunk(2)
            running_mean, running_variance = _statistics(layer)
            running_mean.copy_(mean)
            running_variance.copy_(mean_square - mean**2)


def _statistics(layer: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean, layer.running_var


@contextmanager
def _statistics_of_last_batch(layers: Sequence[_BatchNorm], after_call: Callable) -> Iterator[None]:
    """Running averages forget all but the last batch, and are what they were at the end."""
    before = [(layer, layer.momentum, [buffer.clone() for buffer in layer.buffers()]) for layer in layers]
    handles = [layer.register_forward_hook(after_call) for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, momentum, buffers in before:
            layer.momentum = momentum
            for buffer, value in zip(layer.buffers(), buffers, strict=True):
                buffer.copy_(value)
