"""Save a config as YAML in a form that `load_config` reads back."""

import enum
import functools
import os
import re
from collections.abc import Iterator, KeysView, ValuesView
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy.config.keys import Unresolved, join_key, parts_of, resolve, written
from xray_lazy.config.names import dotted_name
from xray_lazy.config.yaml_format import NamedObject, PartialCall, dump_yaml, escape_interpolations
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_text

# `oc.select` reads another key, too
_RESOLVER = re.compile(r"\$\{(?!oc\.select:)[^${}]*:")


def save_config(config: DictConfig, path: str | os.PathLike) -> None:
    """Write `config` to `path`; keys that refer to other keys go on following them when the file is used again.

    Raises:
        UserError: a value can't be saved; the message names its key.
        OSError: the file can't be written; an older one stays as it was.
    """
    write_text(path, to_yaml(config, references=True))


def to_yaml(config: DictConfig, references: bool = False) -> str:
    """The config as YAML: each `_target_` as a dotted name, other classes and functions as `!!python/name:`,
    `functools.partial`s of them as `!partial`.

    Args:
        config: the whole of it.
        references: leave `${train.max_iter}` and the like as they are; else their values take their places. What comes
            from elsewhere, such as `${oc.env:HOME}`, is always replaced.

    Tuples become lists and paths their text, as everywhere in YAML. Mandatory values that are not given stay "???".

    Raises:
        UserError: an interpolation leads nowhere, or a value has no text that would load again (a lambda, an instance).
    """
    tree = _storable(resolve(config), "")
    return dump_yaml(_with_references(tree, config) if references else tree)


def _with_references(tree: Any, node: Any) -> Any:
    """`tree`, which was made from the config `node`, with the references between keys that it was written with."""
    if not OmegaConf.is_config(node):
        return tree
    raw = written(node)
    for part in parts_of(node):
        if OmegaConf.is_interpolation(node, part):
            if not _RESOLVER.search(raw[part]):
                tree[part] = raw[part]
        elif not OmegaConf.is_missing(node, part):
            tree[part] = _with_references(tree[part], node[part])
    return tree


def _storable(value: Any, key: str) -> Any:
    """`value` made of what YAML can hold; `key` is its place in the config."""
    if isinstance(value, Unresolved):
        raise UserError(f"{key}: {value.text} can't be resolved: {value.reason}", "correct the interpolation")
    if isinstance(value, dict):
        return {_storable_key(part, key): _storable(child, join_key(key, part)) for part, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(item, join_key(key, index)) for index, item in enumerate(value)]
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, enum.Enum):
        return _named(value, key)
    if isinstance(value, (str, Path)):
        return escape_interpolations(str(value))
    if value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    if isinstance(value, functools.partial):
        function = _named(value.func, key)
        return PartialCall(function, _storable([*value.args], key), _storable(dict(value.keywords), key))
    return _named(value, key)


def _storable_key(part: Any, key: str) -> Any:
    if isinstance(part, enum.Enum) or not isinstance(part, (str, int, float, bool)):
        raise UserError(f"{key}: the name {part!r} can't be saved", "use strings or numbers as names")
    return part


def _named(value: Any, key: str) -> str | NamedObject:
    name = dotted_name(value)
    if name is None:
        raise UserError(*_unsavable(value, key))
    return name if key == "_target_" or key.endswith("._target_") else NamedObject(name)


def _unsavable(value: Any, key: str) -> tuple[str, str]:
    """Message and fix for a value without a name."""
    kind = type(value).__name__
    if hasattr(value, "tolist"):  # arrays and tensors
        return f"{key}: a value of type {kind} can't be saved", "write it as a list: append .tolist()"
    if isinstance(value, (range, set, frozenset, Iterator, KeysView, ValuesView)):
        return f"{key}: a value of type {kind} can't be saved", "write it as a list: list(...)"
    return (
        f"{key}: {value!r} can't be saved: it can't be imported by a name",
        "move it into a Python module and use it from there; wrap an object that has to be built in a LazyCall",
    )
