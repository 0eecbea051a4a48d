"""Let a model take one image for training and one for evaluation: parts that don't fit one another are faults."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xray_lazy.config import Fault
from xray_lazy.config.plain_lists import make_lists_plain
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.data.mapper import give_dataset, map_record
from xray_lazy.errors import UserError
from xray_lazy.modeling.step_numbers import StepStorage
from xray_lazy.utils.out_of_memory import memory_failure

READ_AT_MOST = 5


def try_images(cfg: DictConfig, training: bool = True) -> list[Fault]:
    """What mapper and model say to the first images, on the CPU with weights as they are before training.

    Numbers that grow beyond all bounds, as in a frozen backbone whose weights are not loaded, and a lack of memory
    end the trial without a fault: both are no matter of the config.

    Args:
        cfg: a config without faults that can be told without images.
        training: False tries evaluation alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = instantiate(cfg.model).train()
        make_lists_plain(model)
        faults = list(_try_training(cfg, model)) if training else []
        return faults or list(_try_evaluation(cfg, model.eval()))


def _try_training(cfg: DictConfig, model: nn.Module) -> Iterator[Fault]:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()  # one image has too few values at the smallest scale
    sample = yield from _first_sample(cfg, "train", lambda record: bool(record["annotations"]))
    if sample is None:
        return
    with StepStorage():
        losses, reason = _taken(model, sample)
    if not reason and losses is not None and not (isinstance(losses, dict) and losses):
        reason = f"in training it returns {type(losses).__name__} where a dictionary of losses is due"
    if reason:
        yield Fault("model", f"it can't learn from {sample.get('file_name')}: {reason}", _FIX)


def _try_evaluation(cfg: DictConfig, model: nn.Module) -> Iterator[Fault]:
    sample = yield from _first_sample(cfg, "test", lambda record: True)
    if sample is None:
        return
    _, reason = _taken(model, sample)
    if reason:
        yield Fault("model", f"it can't look at {sample.get('file_name')}: {reason}", _FIX)


_FIX = "make channels, strides and sizes of its parts fit one another, and the mapper; --debug of a start shows where"


def _first_sample(cfg: DictConfig, loader: str, wanted: Callable[[dict], bool]) -> Any:
    """The first image as its mapper gives it; None where none of the first ones can be read."""
    node = cfg.dataloader[loader]
    if node.get("mapper") is None or node.get("dataset") is None:
        return None
    mapper = node.mapper.copy()
    if mapper.get("cache") is not None:
        mapper.cache = None  # nothing is written
    mapper, records = instantiate(mapper), instantiate(node.dataset)
    if loader == "train":
        give_dataset(mapper, records)
    chosen = [record for record in records if wanted(record)][:READ_AT_MOST]
    for record in chosen:
        try:
            return map_record(mapper, record)
        except UnreadableImage:
            continue  # a loader leaves it out
        except UserError as error:
            yield Fault(f"dataloader.{loader}.mapper", error.message, error.fix)
            return None
    return None


def _taken(model: nn.Module, sample: dict) -> tuple[Any, str]:
    """What the model gives for an image, and why it can't, if so."""
    with _watched(model) as active:
        try:
            return model([sample]), ""
        except (_Diverged, FloatingPointError):
            return None, ""
        except Exception as error:
            if memory_failure(error):
                return None, ""
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".removesuffix(": ")
            names = {module: name for name, module in model.named_modules()}
            name = next((names[module] for module in reversed(active) if names.get(module)), "")
            return None, f"{name}: {reason}" if name else reason


class _Diverged(Exception):
    pass


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[nn.Module]]:
    """The modules that are at work, the innermost last; one whose output is not finite ends the work."""
    active: list[nn.Module] = []

    def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
        active.pop()
        outputs = output.values() if isinstance(output, dict) else output
        for value in outputs if isinstance(output, (dict, list, tuple)) else [output]:
            if isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
                raise _Diverged

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(lambda module, inputs: active.append(module)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield active
    finally:
        for handle in handles:
            handle.remove()
