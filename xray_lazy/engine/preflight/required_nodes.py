"""Nodes and keys without which nothing trains, told before what follows from their lack."""

from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from xray_lazy.config import Fault
from xray_lazy.config.keys import describes_call, is_within, join_key, parts_of, read_or_none

# what makes an object each
CALLS = (
    "model",
    "optimizer",
    "optimizer.params",
    "lr_multiplier",
    "dataloader.train",
    "dataloader.train.dataset",
    "dataloader.test",
    "dataloader.test.dataset",
    "dataloader.evaluator",
)
# loaders of another class may do without
CALLS_IF_THERE = (
    "dataloader.train.mapper",
    "dataloader.train.sampler",
    "dataloader.test.mapper",
)
CALLS_BY_NAME = ("hooks", "writers")  # null leaves one out
# what is read of `train` by its key, beside references
EVALUATION_KEYS = (
    "output_dir",
    "init_checkpoint",
    "seed",
    "deterministic",
    "freeze",
    "channels_last",
    "amp",
    "compile.enabled",
)
TRAINING_KEYS = (*EVALUATION_KEYS, "max_iter", "accumulate", "max_skipped_steps", "ddp")
TRAINING_KEYS += ("clip_gradients.enabled", "clip_gradients.max_norm", "scale_lr.enabled", "scale_lr.batch_size")
GROUPS_OF_TRAIN = ("amp", "ddp")

FROM_COMMON = "import one from configs/common"
TRAIN_FROM_COMMON = "begin with the train of configs/common/train.py"


def check_nodes(cfg: DictConfig, training: bool = True) -> Iterator[Fault]:
    """What is missing or no node, of each branch the topmost."""
    told: set[str] = set()
    for fault in _faults(cfg, training):
        if not is_within(fault.key, told):
            told.add(fault.key)
            yield fault


def check_calls(cfg: DictConfig, keys: Iterable[str]) -> Iterator[Fault]:
    """Which of these nodes are missing, or make no object."""
    for key in keys:
        yield from _call_faults(cfg, key)


def _faults(cfg: DictConfig, training: bool) -> Iterator[Fault]:
    for key in ("model", "optimizer", "lr_multiplier", "train", "hooks", "writers", "dataloader"):
        yield from _group_faults(cfg, key, "node", FROM_COMMON)
    yield from check_calls(cfg, CALLS)
    for key in CALLS_IF_THERE:
        parent, _, name = key.rpartition(".")
        if name in _names(cfg, parent):
            yield from _call_faults(cfg, key)
    for parent in CALLS_BY_NAME:
        for name in _names(cfg, parent):
            if OmegaConf.is_interpolation(cfg[parent], name) or read_or_none(cfg[parent], name) is not None:
                yield from _call_faults(cfg, join_key(parent, name))
    if _writers_name_numbers(cfg):
        yield from _group_faults(cfg, "train.tracking", "node", FROM_COMMON)
    for name in TRAINING_KEYS if training else EVALUATION_KEYS:
        *groups, last = f"train.{name}".split(".")
        for depth in range(2, len(groups) + 1):
            yield from _group_faults(cfg, ".".join(groups[:depth]), "key", TRAIN_FROM_COMMON)
        if last not in _names(cfg, ".".join(groups)):
            yield Fault(f"train.{name}", "the config has no such key", TRAIN_FROM_COMMON)
        elif name in GROUPS_OF_TRAIN:
            yield from _group_faults(cfg, f"train.{name}", "key", TRAIN_FROM_COMMON)
    if training and "lr" not in _names(cfg, "optimizer"):
        yield Fault("optimizer.lr", "the config has no such key", "add it: +optimizer.lr=0.02")


def _group_faults(cfg: DictConfig, key: str, what: str, fix: str) -> Iterator[Fault]:
    value = _value(cfg, key)
    if value is None:
        yield Fault(key, f"the config has no such {what}", fix)
    elif not isinstance(value, DictConfig):
        yield Fault(key, f"it is {_shown(value)}, where a group of keys belongs", fix)


def _call_faults(cfg: DictConfig, key: str) -> Iterator[Fault]:
    value = _value(cfg, key)
    if value is None:
        yield Fault(key, "the config has no such node", FROM_COMMON)
    elif not describes_call(value) and not (key == "dataloader.evaluator" and _are_calls(value)):
        yield Fault(key, f"it is {_shown(value)}, without a _target_ that makes something of it", FROM_COMMON)


def _are_calls(value: Any) -> bool:
    return isinstance(value, ListConfig) and len(value) > 0 and all(map(describes_call, value))


def _shown(value: Any) -> str:
    return "a group of keys" if isinstance(value, DictConfig) else repr(value)


def _value(cfg: DictConfig, key: str) -> Any:
    """What is at a key, None where nothing is; a reference that leads nowhere is an empty call: others tell of it."""
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in parts_of(node):
            return None
        container, node = node, read_or_none(node, part)
        if node is None and OmegaConf.is_interpolation(container, part):
            return OmegaConf.create({"_target_": "???"})
    return node


def _names(cfg: DictConfig, key: str) -> list:
    node = _value(cfg, key)
    return parts_of(node) if isinstance(node, DictConfig) else []


def _writers_name_numbers(cfg: DictConfig) -> bool:
    """Whether writers are those of configs/common, which go by a node that a `train` of one's own may not have."""
    writers = _value(cfg, "writers")
    return OmegaConf.is_config(writers) and "${train.tracking." in str(OmegaConf.to_container(writers, resolve=False))
