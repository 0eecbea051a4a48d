"""The hooks of a config, and the order in which they are called: that of the config, writing and saving last."""

from detectron2.config import instantiate
from detectron2.engine.train_loop import HookBase
from omegaconf import DictConfig

from xray_lazy.config.names import locate
from xray_lazy.engine.hook_protocols import ComesLast


def put_savers_last(cfg: DictConfig) -> None:
    """Put hooks that the command line or a file has added before those that write and save, see `ComesLast`."""

    def place(item: tuple) -> int:
        target = (cfg.hooks[item[0]] or {}).get("_target_")
        return _place(locate(target) if isinstance(target, str) else target)

    nodes = cfg.hooks._content  # its own methods would lose interpolations
    ordered = sorted(nodes.items(), key=place)
    nodes.clear()
    nodes.update(ordered)


def build_hooks(cfg: DictConfig) -> dict[str, HookBase]:
    """The hooks of a config by name, in the order of `put_savers_last`, which can't look into functions."""
    hooks = {name: instantiate(node) for name, node in given(cfg.hooks).items()}
    return dict(sorted(hooks.items(), key=lambda item: _place(item[1])))


def given(nodes: DictConfig) -> dict[str, DictConfig]:
    """Those of hooks or writers that are not null, which leaves one out."""
    return {str(name): node for name, node in nodes.items() if node is not None}


def _place(hook: object) -> int:
    return hook.comes_last if isinstance(hook, ComesLast) else 0
