"""A config as dotted keys: list them, read their plain values, compare two configs."""

import functools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from xray_lazy.config.names import dotted_name
from xray_lazy.config.suggest import did_you_mean, nearest_keys

MISSING = "???"
_ENVIRONMENT = re.compile(r"\$\{oc\.env:([^,${}]+)\}")
_INNERMOST = re.compile(r"\$\{\.*([^${}:]+)\}")


@dataclass(frozen=True)
class Unresolved:
    """Stands in a resolved tree for an interpolation that leads nowhere."""

    text: str
    reason: str


def flatten(config: DictConfig) -> dict[str, Any]:
    """Dotted keys and their plain values, interpolations replaced; for trackers and comparisons.

    A list is one value unless it holds groups, whose keys are then `augmentations.0.max_size`. An empty group is `{}`.
    Classes and functions become their dotted names and paths their text. An interpolation that leads nowhere stays as
    its text, a mandatory value that is not given is "???".
    """
    return dict(_flatten(resolve(config), ""))


def diff_configs(old: DictConfig, new: DictConfig) -> list[str]:
    """What `new` changes, one line a key: `train.max_iter: 5000 -> 300`; empty where both mean the same."""
    before, after = flatten(old), flatten(new)
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if key not in after:
            lines.append(f"{key}: {before[key]!r} -> removed")
        elif key not in before:
            lines.append(f"{key}: added -> {after[key]!r}")
        # NaN differs from itself, but reads the same
        elif before[key] != after[key] and repr(before[key]) != repr(after[key]):
            lines.append(f"{key}: {before[key]!r} -> {after[key]!r}")
    return lines


def keys_missing_in(old: DictConfig, new: DictConfig) -> list[str]:
    """Keys of values in `new` that `old` lacks altogether; an item that a list has gained is a change of the list."""
    before = flatten(old)
    lists = {key for key, container, part in walk(old) if OmegaConf.is_list(read_or_none(container, part))}
    gained = tuple(f"{key}." for key in lists)
    return [key for key in flatten(new) if key not in before and not key.startswith(gained)]


def walk(config: DictConfig | ListConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig | ListConfig, Any]]:
    """Every key of `config` once, groups before their content: (dotted key, its container, its part in there).

    Interpolations are not followed: what they lead to has its own key elsewhere.
    """
    for part in parts_of(config):
        key = join_key(prefix, part)
        yield key, config, part
        if not OmegaConf.is_interpolation(config, part) and OmegaConf.is_config(child := read(config, part)):
            yield from walk(child, key)


def all_keys(config: DictConfig) -> list[str]:
    """The dotted keys of all groups and values."""
    return [key for key, _, _ in walk(config)]


def key_of(config: DictConfig, node: DictConfig | ListConfig) -> str | None:
    """The dotted key of the very object `node` in `config`; None if it isn't there."""
    for key, container, part in walk(config):
        if not OmegaConf.is_interpolation(container, part) and read(container, part) is node:
            return key
    return None


def reference_fix(config: DictConfig, text: str) -> str:
    """What to do about an interpolation `text` that leads nowhere."""
    if (variable := _ENVIRONMENT.search(text)) and variable[1] not in os.environ:
        return f"set the variable: export {variable[1]}=...; or say what else counts: ${{oc.env:{variable[1]},...}}"
    named = _INNERMOST.search(text)
    while named and named[0] != text and isinstance(part := _value_at(config, named[1]), str | int):
        text = text.replace(named[0], str(part))  # the key within is right, what it makes of the whole is not
        named = _INNERMOST.search(text)
    keys = all_keys(config)
    if named and named[1] in keys:  # it leads back to itself, or to what leads nowhere
        return f"write a value at {named[1]}, or refer to another key"
    near = nearest_keys(named[1], keys) if named else []
    return did_you_mean(near) or "name a key that exists: ${train.max_iter}"


def absent_part(config: DictConfig, text: str) -> str | None:
    """Of the key in an interpolation `text` that leads nowhere the first part that is not there, or holds no keys."""
    named = _INNERMOST.fullmatch(text)
    if not named or text.startswith("${."):
        return None
    parts, node = named[1].split("."), config
    for depth, part in enumerate(parts):
        if not isinstance(node, DictConfig):
            return None if OmegaConf.is_config(node) else ".".join(parts[:depth])
        if part not in parts_of(node):
            return ".".join(parts[: depth + 1])
        node = read_or_none(node, part)
    return None


def _value_at(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None


def expand_home(config: DictConfig) -> None:
    """Let texts that begin with `~` or `~user` begin with that home folder, in place, as a shell would: none does after
    a `key=`."""
    for _, container, part in walk(config):
        if not OmegaConf.is_interpolation(container, part):
            value = read(container, part)
            if isinstance(value, str) and value.startswith("~"):
                container[part] = os.path.expanduser(value)


def written(container: DictConfig | ListConfig) -> Any:
    """The content of a group or list as plain dicts and lists, references as their text."""
    return OmegaConf.to_container(container, resolve=False)


def read_or_none(container: DictConfig | ListConfig, part: Any) -> Any:
    """As `read`; None where it is an interpolation that leads nowhere."""
    try:
        return read(container, part)
    except OmegaConfBaseException:
        return None


def describes_call(node: Any) -> bool:
    """Whether a node makes something by its `_target_`."""
    return isinstance(node, DictConfig) and read_or_none(node, "_target_") is not None


def is_within(key: str, nodes: Iterable[str]) -> bool:
    """Whether a key is one of `nodes`, or in one."""
    return any(key == node or key.startswith(f"{node}.") for node in nodes)


def parts_of(container: DictConfig | ListConfig) -> list:
    """Names or indices of a container's direct children, those that are missing or broken included."""
    return list(range(len(container))) if isinstance(container, ListConfig) else list(container.keys())


def read(container: DictConfig | ListConfig, part: Any) -> Any:
    """A direct child, interpolation followed; "???" where its value, or the one that it refers to, is not given.

    Raises:
        OmegaConfBaseException: an interpolation leads nowhere.
    """
    try:
        return container[part]
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return MISSING


def resolve(config: DictConfig | ListConfig) -> Any:
    """`config` as dicts and lists without interpolations; one that leads nowhere becomes an `Unresolved`.

    `OmegaConf.to_container(resolve=True)` stops at the first of these, and knows no key for some.
    """
    return _resolve(config, ())


def join_key(prefix: str, part: Any) -> str:
    """`prefix.part`; a part that is no plain word is written as `prefix['a.b']`."""
    if isinstance(part, int) or (isinstance(part, str) and re.fullmatch(r"[^.\[\]=\s]+", part)):
        return f"{prefix}.{part}" if prefix else str(part)
    return f"{prefix}[{part!r}]"


def first_line(error: Exception) -> str:
    """What an error says, without the details that omegaconf and hydra append on further lines."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _resolve(value: Any, ancestors: tuple) -> Any:
    if not OmegaConf.is_config(value):
        return value
    if any(value is ancestor for ancestor in ancestors):
        return Unresolved("${...}", "it leads to a group that holds it")
    children = {part: _resolve_child(value, part, (*ancestors, value)) for part in parts_of(value)}
    return list(children.values()) if isinstance(value, ListConfig) else children


def _resolve_child(container: DictConfig | ListConfig, part: Any, ancestors: tuple) -> Any:
    try:
        return _resolve(read(container, part), ancestors)
    except (OmegaConfBaseException, RecursionError) as error:
        return Unresolved(written(container)[part], first_line(error))


def _flatten(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and (value or not key):
        children = value.items()
    elif isinstance(value, list) and _holds_group(value):
        children = enumerate(value)
    else:
        yield key, _plain(value)
        return
    for part, child in children:
        yield from _flatten(child, join_key(key, part))


def _holds_group(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_group, value)))


def _plain(value: Any) -> Any:
    if isinstance(value, Unresolved):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or value == {} or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, functools.partial):
        # repr would show a function by its address, which differs in each process
        arguments = [_plain(value.func), *map(repr, value.args), *(f"{k}={v!r}" for k, v in value.keywords.items())]
        return f"partial({', '.join(map(str, arguments))})"
    return dotted_name(value) or repr(value)
