"""The channels of images: reader, first convolution and statistics agree; pretrained filters fit another number."""

import copy
import logging
import math
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from xray_lazy.config import flatten
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

logger = logging.getLogger(__name__)

PRETRAINED_CHANNELS = 3
_KEY_NAMES = ("in_channels", "in_chans")


def check_input_channels(cfg: DictConfig, model: nn.Module) -> None:
    """Look whether the model is for images of the channels that `dataloader.reader` gives.

    Raises:
        UserError: it is not; with all keys that are to be set.
    """
    first = first_convolution(model)
    if first is None:
        return
    channels = OmegaConf.select(cfg, "dataloader.test.mapper.reader.channels") or PRETRAINED_CHANNELS
    name, there = first[0], first[1].in_channels
    wrong, settings = [], []
    if there != channels:
        wrong.append(f"the first convolution {name} takes {there}")
        values = flatten(cfg)
        keys = [
            key for key, value in values.items() if key.rpartition(".")[2] in _KEY_NAMES and key.startswith("model.")
        ]
        key = next((key for key in keys if values[key] == there), "in_channels (or in_chans) of the model's backbone")
        settings.append(f"{key}={channels}")
    for statistic in ("pixel_mean", "pixel_std"):
        values = getattr(model, statistic, None)
        if isinstance(values, torch.Tensor) and values.numel() not in (1, channels):
            wrong.append(f"model.{statistic} is for {values.numel()}")
            settings.append(f"model.{statistic}='[{', '.join(['...'] * channels)}]'")
    if wrong:
        raise UserError(
            f"images have {counted(channels, 'channel')} (dataloader.reader.channels), but {', '.join(wrong)}",
            f"set {' '.join(settings)}, with the mean and standard deviation of each channel",
        )


def fit_input_channels(
    model: nn.Module, weights: dict[str, Any], path: str, named_by: str, as_they_are: bool = False
) -> dict[str, Any]:
    """The weights of a checkpoint, whose first convolution is made to fit a model for other channels.

    The filters of 3 channels are repeated, and scaled by how many more there are; for one channel they are added.

    Raises:
        UserError: the checkpoint is for another number of channels than 3 and the model's, or, where weights are taken
            `as_they_are`, than the model's.
    """
    first = first_convolution(model)
    if first is None:
        return weights
    own_name, own = f"{first[0]}.weight", first[1].weight
    # names in files of backbones lack their first parts
    names = [name for name in weights if own_name == name or own_name.endswith(f".{name}")]
    for name in sorted(names, key=len)[-1:]:
        there = torch.as_tensor(weights[name])
        same = there.ndim == own.ndim == 4 and (there.shape[0], *there.shape[2:]) == (own.shape[0], *own.shape[2:])
        if not same or there.shape[1] == own.shape[1]:
            continue
        if as_they_are or there.shape[1] != PRETRAINED_CHANNELS:
            raise UserError(
                f"{path} is for images of {counted(there.shape[1], 'channel')}, the model for {own.shape[1]}",
                f"take the config that it was trained with, or other weights: {named_by}",
            )
        logger.info("%s: its filters of 3 channels are repeated for %d", name, own.shape[1])
        fitted = copy.copy(weights)  # with the versions of layers, which torch keeps beside the names
        fitted[name] = _repeated(there, own.shape[1])
        return fitted
    return weights


def _repeated(filters: torch.Tensor, channels: int) -> torch.Tensor:
    if channels == 1:
        return filters.sum(1, keepdim=True)
    repeated = filters.repeat(1, math.ceil(channels / filters.shape[1]), 1, 1)[:, :channels]
    return repeated * (filters.shape[1] / channels)


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The convolution of a detector's backbone that images go through first, and its name; None where none is found.

    Nothing is computed: the backbone is stopped there.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return None
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    device = next((parameter.device for parameter in backbone.parameters()), None)

    def stop(module: nn.Module, inputs: Any) -> None:
        raise _Reached(module)

    handles = [module.register_forward_pre_hook(stop) for module in names]
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, PRETRAINED_CHANNELS, 64, 64, device=device))
    except _Reached as reached:
        return names[reached.convolution], reached.convolution
    except Exception:  # a backbone of another kind
        logger.debug("no first convolution", exc_info=True)
    finally:
        for handle in handles:
            handle.remove()
    return None


class _Reached(Exception):
    def __init__(self, convolution: nn.Module):
        super().__init__()
        self.convolution: Any = convolution
