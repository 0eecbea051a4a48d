"""The hooks of a config, and the order in which they are called: that of the config, but for those that need another.

What judges metrics comes after all that may give them, and writing and saving are last, wherever the command line or a
file has added them.
"""

from collections.abc import Iterable
from typing import TypeVar

from detectron2.config import instantiate
from detectron2.engine.train_loop import HookBase
from omegaconf import DictConfig

from xray_lazy.config.names import target_of
from xray_lazy.engine.hook_protocols import ComesLast, GivesMetrics

Named = TypeVar("Named")


def put_in_order(cfg: DictConfig) -> None:
    """Put the hooks of a config into the order in which they are called; a function's hook it can't look into."""
    nodes = cfg.hooks._content  # its own methods would lose interpolations
    ordered = _in_order((target_of(cfg.hooks[name] or {}), (name, node)) for name, node in nodes.items())
    nodes.clear()
    nodes.update(ordered)


def build_hooks(cfg: DictConfig) -> dict[str, HookBase]:
    """The hooks of a config by name, in the order in which they are called."""
    hooks = {name: instantiate(node) for name, node in given(cfg.hooks).items()}
    return dict(_in_order((hook, (name, hook)) for name, hook in hooks.items()))


def given(nodes: DictConfig) -> dict[str, DictConfig]:
    """Those of hooks or writers that are not null, which leaves one out."""
    return {str(name): node for name, node in nodes.items() if node is not None}


def _in_order(hooks: Iterable[tuple[object, Named]]) -> list[Named]:
    """What stands for the hooks, or for their classes, which come with it."""
    before, givers, others, judges = [], [], [], []
    for hook, named in hooks:
        if isinstance(hook, GivesMetrics):
            givers.append((hook, named))
        elif hasattr(hook, "judges_metrics"):
            judges.append((hook, named))
        elif givers or judges:
            others.append((hook, named))
        else:
            before.append((hook, named))
    ordered = [*before, *sorted(givers, key=lambda item: item[0].gives_metrics), *others, *judges]
    return [named for _, named in sorted(ordered, key=lambda item: _place(item[0]))]


def _place(hook: object) -> int:
    return hook.comes_last if isinstance(hook, ComesLast) else 0
