"""Change a config by overrides: Hydra's grammar, but keys must exist and values must fit the present ones."""

import copy
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from xray_lazy.config.fit import fit_at, fit_target, is_interpolation, type_name
from xray_lazy.config.keys import (
    MISSING,
    all_keys,
    expand_home,
    first_line,
    join_key,
    key_of,
    parts_of,
    read,
    read_or_none,
    reference_fix,
    written,
)
from xray_lazy.config.override_grammar import Change, parse_override
from xray_lazy.config.suggest import did_you_mean, nearest_keys
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

Container = DictConfig | ListConfig


def apply_overrides(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of `config` with the overrides applied in their order; `config` itself is left as it is.

    Args:
        config: any config.
        overrides: `a.b=v` sets a key that exists to a value that fits the present one (`xray_lazy.config.fit`),
            `+a.b=v` adds a key, `++a.b=v` does either and takes any value, `~a.b` removes.

    Raises:
        UserError: an override is not in the grammar, names a wrong key or gives a wrong value. All are reported.
    """
    return change_config(config, overrides)[0]


def change_config(config: DictConfig, overrides: Sequence[str]) -> tuple[DictConfig, list[Change]]:
    """`apply_overrides`, and the overrides as they were read."""
    changed = copy.deepcopy(config)
    errors, changes = [], []
    with read_write(changed), open_dict(changed):
        for text in overrides:
            try:
                changes.append(_apply(changed, text))
            except UserError as error:
                errors.append(error)
        if not errors:
            errors = list(_interpolation_errors(changed, changes))
        expand_home(changed)
    _raise(errors)
    return changed, [change for change, _ in changes]


def _apply(config: DictConfig, text: str) -> tuple[Change, Any]:
    """Apply one override in place; returns it with the value that was there before."""
    change = parse_override(text)
    container, part = _find(config, change)
    exists = part in parts_of(container)
    try:
        present = read_or_none(container, part) if exists else None
        if change.removes:
            _remove(config, container, part, change, present)
        elif exists and change.adds:
            raise UserError(f"{text}: the key {change.key} exists", f"to set it, write {text.lstrip('+')}")
        elif exists or change.adds or change.forces:
            _assign(container, part, _fitted(change, present) if exists else change.value, change)
        else:
            raise _unknown_key(config, change, container)
    except OmegaConfBaseException as error:
        raise UserError(f"{text}: {first_line(error)}") from None
    return change, present


def _find(config: DictConfig, change: Change) -> tuple[Container, Any]:
    """The container that a change is about and the part in there; groups on the way are made where it adds."""
    container: Container = config
    key = ""
    for depth, name in enumerate(change.parts[:-1], 1):
        part = _part_in(container, name, key, change)
        key = join_key(key, part)
        if part not in parts_of(container):
            if not (change.adds or change.forces):
                raise _unknown_key(config, change, container)
            _assign(container, part, {}, change)
        if OmegaConf.is_interpolation(container, part):
            raise _behind_interpolation(config, change, container, part, depth)
        child = read(container, part)
        if (child is None or OmegaConf.is_missing(container, part)) and (change.adds or change.forces):
            _assign(container, part, {}, change)
            child = container[part]
        if not isinstance(child, DictConfig | ListConfig):
            raise UserError(
                f"{change.text}: there is no key {change.key}; {key} is {child!r} ({type_name(child)}), not a group",
                f"set {key} itself",
            )
        container = child
    return container, _part_in(container, change.parts[-1], key, change)


def _part_in(container: Container, name: str, key: str, change: Change) -> Any:
    """`name` as the container holds it: an index for lists, a number for groups with numbers as names."""
    if isinstance(container, ListConfig):
        if not name.isdigit():
            message = f"{change.text}: {key} is a list of {counted(len(container), 'item')}"
            raise UserError(message, f"write the number of one: {key}.0")
        return int(name)
    if name.isdigit() and name not in parts_of(container) and int(name) in parts_of(container):
        return int(name)
    return name


def _fitted(change: Change, present: Any) -> Any:
    if change.forces or is_interpolation(change.value):
        return change.value
    try:
        part = change.parts[-1]
        return fit_target(change.value) if part == "_target_" else fit_at(change.parts, change.value, present)
    except TypeError as error:
        raise UserError(f"{change.text}: {error}", _fit_fix(change, present)) from None
    except UserError as error:
        raise UserError(f"{change.text}: {error.message}", error.fix) from None


def _fit_fix(change: Change, present: Any) -> str:
    key, value = change.key, change.value
    if change.parts[-1] == "_target_":
        return f"write it like {key}=torch.optim.SGD"
    otherwise = f"; ++{key}=null where it may be left open" if value is None else ""
    if isinstance(present, bool):
        return f"write true or false{otherwise}"
    if isinstance(present, (int, float)):
        return f"write a {'whole ' if isinstance(present, int) else ''}number{otherwise}"
    if OmegaConf.is_dict(present) and not len(present):
        return f"write a group: '{key}={{KEY: VALUE}}'"
    if OmegaConf.is_dict(present):
        values = [part for part in parts_of(present) if not OmegaConf.is_config(read_or_none(present, part))]
        return f"set one of its keys: {key}.{(values or parts_of(present))[0]}=..."
    if isinstance(present, str) and isinstance(value, (bool, int, float)):
        return f"text that looks like a number or a flag needs quotes: '{key}=\"{change.value_text}\"'"
    if OmegaConf.is_list(present) and not isinstance(value, (list, dict)):
        return f"write a list: '{key}=[{change.value_text}]'"
    return f"{shlex.quote(f'++{key}={change.value_text}')} sets it whatever the type"


def _assign(container: Container, part: Any, value: Any, change: Change) -> None:
    if isinstance(container, ListConfig) and part > len(container):
        raise UserError(
            f"{change.text}: the list has {counted(len(container), 'item')}", f"the next one is {len(container)}"
        )
    if isinstance(container, ListConfig) and part == len(container):
        container.append(value)
    else:
        container[part] = value


def _remove(config: DictConfig, container: Container, part: Any, change: Change, present: Any) -> None:
    if part not in parts_of(container):
        raise _unknown_key(config, change, container)
    if change.has_value and change.value != present:
        raise UserError(
            f"{change.text}: {change.key} is {present!r}, not {change.value!r}",
            f"~{change.key} removes it whatever it is",
        )
    del container[part]


def _unknown_key(config: DictConfig, change: Change, container: Container) -> UserError:
    message = f"{change.text}: there is no key {change.key}"
    near = nearest_keys(change.key, all_keys(config))
    fix = did_you_mean(near) or f"there are: {', '.join(map(str, parts_of(container)[:12]))}"
    if not change.removes:
        fix += f" (+{change.text} adds a new key)"
    return UserError(message, fix)


def _behind_interpolation(config: DictConfig, change: Change, container: Container, part: Any, depth: int) -> UserError:
    """The key is in a group that is a reference to another one: it has no keys that could be set."""
    text = written(container)[part]
    key, rest = ".".join(change.parts[:depth]), ".".join(change.parts[depth:])
    target = read_or_none(container, part)
    source = key_of(config, target) if OmegaConf.is_config(target) else None
    fix = f"set {source}.{rest} instead, which changes both" if source else f"set {key} as a whole"
    return UserError(f"{change.text}: {key} is {text}, a reference without keys of its own", fix)


def _interpolation_errors(config: DictConfig, changes: list[tuple[Change, Any]]) -> Iterator[UserError]:
    """New values such as `${train.max_iter}` can be compared with the old ones only when all overrides are in."""
    for change, present in changes:
        if change.removes or not is_interpolation(change.value):
            continue
        try:
            value = read(*_find(config, change))
        except OmegaConfBaseException as error:
            yield UserError(f"{change.text}: {first_line(error)}", reference_fix(config, change.value))
            continue
        except UserError:
            continue  # a later override has removed the group that it was in
        try:
            if not (change.forces or value == MISSING):
                fit_at(change.parts, value, present)
        except TypeError as error:
            yield UserError(f"{change.text}: {error}", "refer to a key of the same type")
        except UserError as error:
            yield UserError(f"{change.text}: {error.message}", error.fix)


def _raise(errors: list[UserError]) -> None:
    """One error as it is, several as one that lists them."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        lines = [f"{counted(len(errors), 'override is', 'overrides are')} wrong"]
        for error in errors:
            lines += [f"  {error.message}", f"    fix: {error.fix}"]
        raise UserError("\n".join(lines))
