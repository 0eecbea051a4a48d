"""Build the parts of a training once before it starts, without memory for weights: what a class refuses is a fault."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.config import instantiate
from detectron2.engine.train_loop import HookBase
from omegaconf import DictConfig

from xray_lazy.config import Fault
from xray_lazy.config.names import target_of
from xray_lazy.engine.epochs import put_iterations
from xray_lazy.engine.evaluation_run import augmentation_enabled, augmentation_node, build_augmented
from xray_lazy.engine.experiment import accelerate, build_optimizer, check_data_parallel_options, freeze_parts
from xray_lazy.engine.hook_order import given
from xray_lazy.engine.precision import Precision
from xray_lazy.engine.preflight.unbuildable import fault_of_build
from xray_lazy.engine.weights.input_channels import check_input_channels
from xray_lazy.engine.weights.weightless import build_weightless
from xray_lazy.errors import UserError
from xray_lazy.modeling.feature_strides import check_strides
from xray_lazy.tracking.writer import Writer


def build_on_trial(cfg: DictConfig, training: bool = True) -> list[Fault]:
    """Faults that classes of a config find in their arguments: model, what is frozen, optimizer, hooks, writers.

    Writers that are not our `Writer`s are left out: others may open files when they are built.

    Args:
        cfg: a config without faults that can be told without building.
        training: False builds what evaluation needs.
    """
    cfg = copy.deepcopy(cfg)
    put_iterations(cfg, epoch=1)  # how long an epoch is doesn't matter here
    faults: list[Fault] = []
    with without_log():
        built = _try(faults, "model", lambda: build_weightless(cfg.model), cfg.model)
        model: Any = built
        if built is not None:
            _try(faults, "model", lambda: check_strides(model))
            _try(faults, "dataloader.reader", lambda: check_input_channels(cfg, model))
        frozen = built is not None and _try(faults, "train.freeze", lambda: freeze_parts(cfg, model) or True)
        node = cfg.dataloader.test.get("mapper")
        _try(faults, "dataloader.test.mapper", lambda: instantiate(node), node)
        if not training:
            if built is not None and augmentation_enabled(cfg):
                node = _try(faults, "test.tta.model", lambda: augmentation_node(cfg))
                if node is not None:
                    _try(faults, "test.tta.model", lambda: build_augmented(cfg, model), node)
            return faults
        if frozen:
            _try(faults, "optimizer", lambda: build_optimizer(cfg, model), cfg.optimizer)
            _try(faults, "train.compile", lambda: accelerate(cfg, model))
        for part in ("mapper", "sampler"):
            node = cfg.dataloader.train.get(part)
            _try(faults, f"dataloader.train.{part}", lambda node=node: instantiate(node), node)
        _try(faults, "train.ddp", lambda: check_data_parallel_options(cfg))
        _try(faults, "train.amp", lambda: Precision("cpu", **cfg.train.amp))
        _try(faults, "lr_multiplier", lambda: instantiate(cfg.lr_multiplier), cfg.lr_multiplier)
        if not any(fault.key.startswith("lr_multiplier") for fault in faults):
            for name, node in given(cfg.hooks).items():
                _try(faults, f"hooks.{name}", lambda node=node: _build_hook(node), node)
        for name, node in given(cfg.writers).items():
            if _is_our_writer(node):
                _try(faults, f"writers.{name}", lambda node=node: instantiate(node), node)
    return faults


def _try(faults: list[Fault], key: str, build: Callable[[], Any], node: Any = None) -> Any:
    """What `build` makes, of `node` if there is one; None, and one more fault, where it fails."""
    try:
        return build()
    except Exception as error:  # whatever a class of the config says of its arguments
        faults.append(fault_of_build(key, node, error))
    return None


def _build_hook(node: Any) -> None:
    hook = instantiate(node)
    if not isinstance(hook, HookBase):
        raise UserError(f"a {type(hook).__name__} is not a hook", "give it a _target_ that is a subclass of HookBase")


def _is_our_writer(node: Any) -> bool:
    target = target_class(node)
    return target is not None and issubclass(target, Writer)


def target_class(node: Any) -> type | None:
    """The class that a node builds; None for what functions build."""
    target = target_of(node) if isinstance(node, DictConfig) else None
    return target if isinstance(target, type) else None


@contextmanager
def without_log() -> Iterator[None]:
    """Without the log, which tells of a failure what the fault tells, or of what is built again later."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
