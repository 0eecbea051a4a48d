"""Lengths that a config gives in epochs, turned into iterations before anything is built."""

import math
from collections.abc import Collection, Iterator
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from xray_lazy.config import Fault
from xray_lazy.config.keys import walk
from xray_lazy.config.period import PERIOD_FIX, is_period_key, parse_epochs
from xray_lazy.errors import UserError


def resolve_epochs(cfg: DictConfig, overridden: Collection[str] = ()) -> list[Fault]:
    """Put iterations where `cfg` has epochs, in place, and return what is wrong with them.

    `train.max_epochs`, where it is given, decides on `train.max_iter`; periods such as `train.eval_period="1 epoch"`
    become numbers. An epoch counts as a whole number of iterations, the nearest one and at least 1, so that
    12 epochs with an evaluation at each are 12 evaluations, the last of them at the end.

    Args:
        cfg: a config whose training set can be loaded.
        overridden: keys of the command line; an iteration number there that `train.max_epochs` decides on is a fault.
    """
    max_epochs = OmegaConf.select(cfg, "train.max_epochs")
    faults = [*_check_max_epochs(max_epochs, overridden), *check_periods(cfg)]
    if faults:
        return faults
    try:
        epoch = iterations_per_epoch(cfg)
    except UserError as error:
        return [Fault("dataloader.train.sampler", error.message, error.fix)]
    put_iterations(cfg, epoch)
    return []


def put_iterations(cfg: DictConfig, epoch: int) -> None:
    """Replace epochs in `cfg` by iterations, in place."""
    max_epochs = OmegaConf.select(cfg, "train.max_epochs")
    if max_epochs is not None:
        cfg.train.max_iter = to_iterations(max_epochs, epoch)
    for _, container, part in list(_periods(cfg)):
        epochs = parse_epochs(container[part])
        if epochs is not None:
            container[part] = to_iterations(epochs, epoch)


def iterations_per_epoch(cfg: DictConfig) -> int:
    """Iterations in an epoch of a config's sampler over its training set.

    Raises:
        UserError: the sampler can't draw from this data set what it promises.
    """
    loader = cfg.dataloader.train
    images = instantiate(loader.sampler).epoch_length(instantiate(loader.dataset))
    return to_iterations(1 / loader.total_batch_size, images)


def to_iterations(epochs: float, iterations: int) -> int:
    """The whole number nearest to `epochs` of `iterations` each; a half is rounded up, and 1 is the least."""
    return max(1, math.floor(epochs * iterations + 0.5))


def _periods(cfg: DictConfig) -> Iterator[tuple[str, DictConfig | ListConfig, Any]]:
    """Periods that are given at their own key, as `walk` yields them."""
    for key, container, part in walk(cfg):
        if is_period_key(part) and not OmegaConf.is_interpolation(container, part):
            yield key, container, part


def check_periods(cfg: DictConfig) -> Iterator[Fault]:
    """Periods that are neither a number nor epochs."""
    for key, container, part in _periods(cfg):
        value = container[part]
        if isinstance(value, str) and parse_epochs(value) is None:
            yield Fault(key, f"{value!r} is not a period", PERIOD_FIX)


def _check_max_epochs(max_epochs: object, overridden: Collection[str]) -> Iterator[Fault]:
    if max_epochs is None:
        return
    if isinstance(max_epochs, bool) or not isinstance(max_epochs, (int, float)) or not 0 < max_epochs < math.inf:
        yield Fault("train.max_epochs", f"it is {max_epochs!r}", "give a number above 0, such as 12")
    if "train.max_iter" in overridden:
        yield Fault(
            "train.max_iter",
            f"it is given, but train.max_epochs={max_epochs} decides how long to train",
            "leave it out, or add ++train.max_epochs=null",
        )
