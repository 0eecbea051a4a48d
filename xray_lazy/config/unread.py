"""Keys of a config that no one reads, such as a misspelled one in a file: a warning, since someone may have a use."""

import functools
import logging
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from omegaconf import DictConfig, OmegaConf

from xray_lazy.config.keys import parts_of
from xray_lazy.config.load import get_config
from xray_lazy.config.suggest import did_you_mean, nearest, nearest_keys

NODES = ("model", "optimizer", "lr_multiplier", "train", "test", "dataloader", "hooks", "writers")
LOADERS = frozenset(f"dataloader.{name}" for name in ("root", "train", "test", "test_apart", "validation", "evaluator"))
# what is in them is named by the user, or checked against the arguments of a function
OPEN = ("train.ddp.*", "train.class_map.*", "train.tracking.tables.*")
# `own_keys = dict(train=["mine*"])` in a config: patterns of keys that it adds on purpose
OWN_KEYS = "own_keys"

logger = logging.getLogger(__name__)


def warn_of_unread_keys(config: DictConfig) -> None:
    """Log one warning for each key of `unread_keys`, with the near names that are read."""
    for key, near in unread_keys(config).items():
        node, _, rest = key.partition(".")
        fix = did_you_mean(near) or f'where it is meant, say so in the config: {OWN_KEYS} = dict({node}=["{rest}"])'
        logger.warning("nothing reads the key %s of the config; %s", key, fix)


def unread_keys(config: DictConfig) -> dict[str, list[str]]:
    """Keys of `train`, `test` and `dataloader` that no one reads or refers to, with near ones that are read.

    Of the top level those that look like a node: others are helpers of a config file.
    """
    known = _known_keys()
    allowed = [f"{node}.{pattern}" for node, patterns in (config.get(OWN_KEYS) or {}).items() for pattern in patterns]
    text = str(OmegaConf.to_container(config, resolve=False))
    referred = set(re.findall(r"\$\{(?:oc\.select:)?([^${}:,]+)", text)) - set(NODES)
    unread = {}
    for key in (key for node in ("train", "test", "dataloader") for key in _keys(config, node)):
        is_read = key in known or (key.count(".") > 1 and key.startswith("dataloader."))
        is_read |= any(key == name or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in referred)
        is_told = any(key.startswith(f"{outer}.") for outer in unread)
        if not (is_read or is_told or any(fnmatchcase(key, pattern) for pattern in (*allowed, *OPEN))):
            unread[key] = nearest_keys(key, known)
    misspelled = {
        name: nearest(name, set(NODES) - set(config)) for name in parts_of(config) if name not in (*NODES, OWN_KEYS)
    }
    return unread | {name: near for name, near in misspelled.items() if near and name not in referred}


@functools.cache
def _known_keys() -> frozenset[str]:
    """What is read of `train`, `test` and `dataloader`."""
    common = (_keys(get_config(f"common/{node}.py"), node) for node in ("train", "test"))
    return LOADERS.union(*common)


def _keys(config: DictConfig, prefix: str) -> Iterator[str]:
    """The keys in a node of plain groups, without the arguments of calls, which are checked with their class."""
    node = OmegaConf.select(config, prefix)
    if not isinstance(node, DictConfig) or "_target_" in node:
        return
    for name in parts_of(node):
        yield f"{prefix}.{name}"
        if not (OmegaConf.is_interpolation(node, name) or OmegaConf.is_missing(node, name)):
            yield from _keys(config, f"{prefix}.{name}")
