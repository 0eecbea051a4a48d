"""The losses of training on images that training does not see."""

import logging
import time
from collections.abc import Iterable, Mapping

import torch
from detectron2.config import instantiate
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from torch import nn

from xray_lazy.engine.beside_training import beside_training
from xray_lazy.engine.precision import Precision
from xray_lazy.engine.processes.step_limit import each_in_time
from xray_lazy.errors import UserError
from xray_lazy.modeling.batch_counts import MicroBatches

logger = logging.getLogger(__name__)


class ValidationLoss(HookBase):
    """Put `val_loss/total_loss` and each term, `val_loss/loss_cls` and so on: means over the validation images.

    Averaged weights, where evaluation looks at them, have theirs under `val_loss_EMA/`.

    Args:
        period: in iterations, and after the last one; 0 switches it off.
        dataloader: the config's `dataloader` node, whose `validation` gives the images.

    Batch norm takes its running statistics and dropout is off; weights, statistics and all random states stay as they
    are. The same weights have the same loss, also with another number of processes, but for what padding does to
    images of unequal size.
    """

    gives_metrics = 3

    def __init__(self, period: int, dataloader: Mapping):
        if period > 0 and not dataloader.get("validation"):
            raise UserError(
                "the config has no dataloader.validation", "import it from configs/common/data, or period=0"
            )
        self.period, self._dataloader = period, dataloader

    def why_never(self, metric: str) -> tuple[str, str] | None:
        """See `MayBeOff`."""
        if self.period > 0 or not metric.startswith("val_loss"):
            return None
        return "no validation loss is computed", "set hooks.validation_loss.period, e.g. to ${train.eval_period}"

    def before_train(self) -> None:
        if self.period > 0:
            self._loader = instantiate(self._dataloader["validation"])

    def after_step(self) -> None:
        trainer = self.trainer
        if self.period <= 0 or (trainer.iterations_done % self.period and not trainer.is_finished):
            return
        trainer.save_before(self)
        for suffix, model in trainer.evaluated_models.items():
            start = time.perf_counter()
            losses = mean_losses(model, self._loader, trainer.precision, trainer.accumulate)
            if comm.is_main_process():
                trainer.put_results({f"val_loss{suffix}/{name}": value for name, value in losses.items()})
                words = (f"val_loss{suffix}", losses["total_loss"], len(self._loader.dataset))
                logger.info("%s %.4f on %d images, %.1f s", *words, time.perf_counter() - start)


def mean_losses(
    model: nn.Module, loader: Iterable[tuple[list[dict], int]], precision: Precision, accumulate: int = 1
) -> dict[str, float]:
    """Mean losses of a model and their sum, `total_loss`; all processes call it together and get the same.

    Args:
        model: in training mode, but for the parts that are frozen.
        loader: batches, each with its weight; equally many of equal size in all processes.
        precision: that of training.
        accumulate: parts that a batch is worked through in, as in training.
    """
    sums: dict[str, float] = {}
    weights = 0.0
    with beside_training(model):
        rest_layers(model)
        for batch, weight in each_in_time("validation batch", loader):
            micro_batches = MicroBatches(batch, max(len(batch) // accumulate, 1))
            if len(micro_batches.parts) > 1:
                with precision.autocast():
                    micro_batches.count(lambda number, parts=micro_batches.parts: model(parts[number]))
            for number in range(len(micro_batches.parts)):
                with micro_batches.part(number) as part, precision.autocast():
                    losses = model(part)
                share = weight * micro_batches.share
                values = torch.stack([loss.double() for loss in losses.values()]).tolist()
                for name, value in zip(losses, values, strict=True):
                    sums[name] = sums.get(name, 0.0) + share * value
                weights += share
    gathered = comm.all_gather((sums, weights))
    weights = sum(weights for _, weights in gathered)
    means = {name: sum(sums[name] for sums, _ in gathered) / weights for name in sums}
    return {**means, "total_loss": sum(means.values())}


def rest_layers(model: nn.Module) -> None:
    """Put the layers of a model into evaluation mode, and leave the parts that are made of layers as they are.

    Batch norm, dropout and their like are layers; what computes losses in training mode only is a part. A part that
    calls the function `dropout` by itself stays random, with the same seed at every call.
    """
    for module in model.modules():
        is_layer = module is not model and next(module.children(), None) is None
        if is_layer or isinstance(module, nn.MultiheadAttention):
            module.training = False
