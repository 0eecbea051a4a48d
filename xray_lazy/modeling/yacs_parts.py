"""A bridge to model parts that are written for detectron2's older yacs configs and registered by name."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg
from omegaconf import ListConfig

from xray_lazy.config.names import locate
from xray_lazy.errors import UserError


def yacs_config(options: Sequence[Any] = (), imports: Sequence[str] = ()) -> CfgNode:
    """detectron2's default yacs config with some keys changed, for its `build_backbone`, `build_roi_heads`, ...

    Args:
        options: KEY, VALUE, KEY, VALUE, ..., as on the command line of detectron2's train_net.py.
        imports: dotted names of the modules whose parts register themselves.

    Raises:
        UserError: a module can't be imported, a key does not exist, or a value doesn't fit.
    """
    for name in imports:
        locate(name)
    options = [list(option) if isinstance(option, ListConfig) else option for option in options]
    config = get_cfg()
    try:
        config.merge_from_list(options)
    except (AssertionError, KeyError, ValueError) as error:
        raise UserError(f"the yacs options {options}: {error}", "they are KEY, VALUE, KEY, VALUE, ...") from None
    return config
