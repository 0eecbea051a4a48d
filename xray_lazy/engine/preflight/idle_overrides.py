"""Overrides of settings whose switch is off, such as the norm of a clipping that isn't enabled: they change nothing."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig

from xray_lazy.config.keys import flatten, is_within

logger = logging.getLogger(__name__)


class Switch(NamedTuple):
    """Settings that count only where another key says so.

    Attributes:
        off: the keys with the values at which the settings count for nothing, all of them together. A config that lacks
            one of the keys has something of its own there.
        settings: the keys, or groups of keys, that count for nothing then.
        on: an override that makes them count.
    """

    off: Mapping[str, Any]
    settings: tuple[str, ...]
    on: str

    @property
    def is_off(self) -> str:
        """What the config says, for a message."""
        return " and ".join(f"{name} is {_written(value)}" for name, value in self.off.items())


def _part(loader: str) -> Switch:
    dataset = f"dataloader.{loader}.dataset"
    off = {f"{dataset}.fraction": 1, f"{dataset}.max_pictures": None}
    return Switch(off, (f"{dataset}.seed",), f"{dataset}.fraction=0.5")


def _enabled(node: str, *settings: str) -> Switch:
    inside = tuple(f"{node}.{name}" for name in settings)
    return Switch({f"{node}.enabled": False}, inside or (node,), f"{node}.enabled=True")


_CACHE = "dataloader.train.mapper.cache"
# evaluations of a training and those of --eval-only
EVALUATION = (
    _part("test"),
    _enabled("dataloader.evaluator.screening"),
    Switch(
        {"dataloader.evaluator.screening.hit": "centre"},
        ("dataloader.evaluator.screening.iou",),
        "dataloader.evaluator.screening.hit=iou",
    ),
    Switch({f"{_CACHE}.folder": None}, (f"{_CACHE}.max_gib",), f"{_CACHE}.folder=FOLDER"),
    Switch(
        {"dataloader.reader.log_attenuation": False},
        ("dataloader.reader.deepest",),
        "dataloader.reader.log_attenuation=True",
    ),
    Switch({"dataloader.reader.window": None}, ("dataloader.reader.shown",), "dataloader.reader.window='[0, 255]'"),
)
# a training leaves what it says of test-time augmentation to the evaluations of its weights
EVALUATION_ONLY = (
    Switch({"test.tta.enabled": False}, ("test.tta.model",), "test.tta.enabled=True"),
    Switch({"train.amp.evaluation": False}, ("train.amp.enabled", "train.amp.dtype"), "train.amp.evaluation=True"),
)
TRAINING = (
    Switch({"train.amp.enabled": False, "train.amp.evaluation": False}, ("train.amp.dtype",), "train.amp.enabled=True"),
    _enabled("train.scale_lr", "batch_size"),
    _enabled("train.clip_gradients", "max_norm"),
    _enabled("train.compile", "parts", "mode", "dynamic", "backend"),
    _enabled("hooks.report", "time_limit"),
    Switch(
        {"train.init_checkpoint": ""}, ("train.class_map", "train.checkpoint_classes"), "train.init_checkpoint=FILE"
    ),
    Switch({"hooks.ema.decay": 0}, ("hooks.ema.evaluate",), "hooks.ema.decay=0.9998"),
    Switch(
        {"hooks.precise_batch_norm.num_batches": 0},
        ("hooks.precise_batch_norm.periods",),
        "hooks.precise_batch_norm.num_batches=100",
    ),
    Switch(
        {"hooks.early_stopping.patience": None},
        tuple(f"hooks.early_stopping.{name}" for name in ("metric", "mode", "min_delta", "warmup_iters")),
        "hooks.early_stopping.patience=5",
    ),
    Switch({"hooks.validation_loss.period": 0}, ("dataloader.validation",), "hooks.validation_loss.period=500"),
    Switch({"optimizer.params.layer_decay": 1}, ("optimizer.params.layers",), "optimizer.params.layer_decay=0.8"),
    Switch({"lr_multiplier.warmup_iters": 0}, ("lr_multiplier.warmup_factor",), "lr_multiplier.warmup_iters=500"),
    _part("train"),
    Switch(
        {"hooks.checkpoint.max_to_keep": 0},
        ("train.checkpointer.keep_every", "hooks.checkpoint.keep_every"),
        "train.checkpointer.max_to_keep=3",
    ),
    Switch(
        {"hooks.prediction_pictures.count": 0},
        ("hooks.prediction_pictures.score_threshold",),
        "hooks.prediction_pictures.count=8",
    ),
    Switch({"writers.wandb.mode": "disabled"}, ("writers.wandb",), "writers.wandb.mode=auto"),
)


def warn_of_idle_overrides(cfg: DictConfig, overridden: Collection[str], training: bool = True) -> None:
    """Log one warning for each override that changes nothing, with what would make it count.

    What a config file says is not looked at: it may keep settings for the day on which they are switched on.

    Args:
        cfg: with the overrides.
        overridden: their keys.
        training: False for --eval-only, where only what evaluation reads is looked at.
    """
    warn_of_idle(idle_overrides(cfg, overridden, training))


def warn_of_idle(idle: Iterable[tuple[str, Switch]]) -> None:
    """Log a warning for each key of `idle_overrides`."""
    for key, switch in idle:
        logger.warning("%s has no effect while %s; to make it count: %s", key, switch.is_off, switch.on)


def idle_overrides(cfg: DictConfig, overridden: Collection[str], training: bool = True) -> Iterator[tuple[str, Switch]]:
    """The keys that change nothing, each with its switch, in order; arguments as those of `warn_of_idle_overrides`."""
    values = flatten(cfg)
    for switch in (*EVALUATION, *(TRAINING if training else EVALUATION_ONLY)):
        is_off = all(name in values and values[name] == value for name, value in switch.off.items())
        if not is_off or ("dataloader.validation" in switch.settings and _others_may_validate(cfg)):
            continue
        for key in sorted(overridden):
            if is_within(key, switch.settings) and key not in switch.off:
                yield key, switch


def _written(value: Any) -> str:
    return "null" if value is None else repr(value)


def _others_may_validate(cfg: DictConfig) -> bool:
    """Whether another hook has the loaders: one of a user's own, or a second validation loss."""
    hooks = {name: node for name, node in cfg.hooks.items() if name != "validation_loss"}
    return any("dataloader" in node for node in hooks.values() if isinstance(node, DictConfig))
