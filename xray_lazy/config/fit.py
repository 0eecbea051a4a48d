"""Whether a new value may replace the present one: the rules that overrides are checked by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf

from xray_lazy.config.keys import MISSING
from xray_lazy.config.names import locate
from xray_lazy.config.period import PERIOD_FIX, is_period_key, parse_epochs
from xray_lazy.errors import UserError

DATA_SETS = ("dataset", "names")
_NAMES = {"NoneType": "null", "dict": "group", "DictConfig": "group", "ListConfig": "list"}


def fit(value: Any, present: Any) -> Any:
    """`value` as it is to be stored in the place of `present`.

    - None or a value that was not given yet takes anything.
    - null takes the place of strings, paths, lists, groups and objects: parts that an experiment can do without.
      A number or a flag that is missing is an accident more often than not, and is refused.
    - A number must be of the present type; 5e3 is the integer 5000, and 1 is the float 1.0.
    - A list must hold what the present one holds, in any number; a group is replaced as a whole by a group,
      and a group with a `_target_` by one that has a `_target_`, too.
    - A class or function is replaced by the dotted name of another one.

    Raises:
        TypeError: it doesn't fit; the text names both types.
        UserError: `value` should name an object, but that can't be imported.
    """
    if present is None or (isinstance(present, str) and present == MISSING):
        return value
    if value is None:
        return _fit_null(present)
    if OmegaConf.is_dict(present) or isinstance(present, dict):
        return _fit_group(value, present)
    if isinstance(present, bool) or isinstance(value, bool):
        if not (isinstance(present, bool) and isinstance(value, bool)):
            raise _misfit(value, present)
        return value
    if isinstance(present, (int, float)):
        return _fit_number(value, present)
    if isinstance(present, Path) and isinstance(value, str):
        return Path(value)
    if isinstance(present, (list, ListConfig)):
        return _fit_list(value, present)
    if not isinstance(present, str) and isinstance(value, str):
        return locate(value)
    if not isinstance(value, str):
        raise _misfit(value, present)
    return value


def fit_at(parts: Sequence, value: Any, present: Any) -> Any:
    """`value` as `fit` has it, but for two kinds of keys, which their `parts` tell.

    A period takes iterations or epochs, and the `names` of a `dataset` one set or a list of sets, whichever was there.

    Raises:
        TypeError, UserError: as `fit`; the text for a period in epochs can't be read.
    """
    part = parts[-1]
    if tuple(parts[-2:]) == DATA_SETS and value is not None and _are_sets(present):
        if not _are_sets(value):
            raise _misfit(value, present)
        return value
    in_epochs = parse_epochs(present) is not None
    if is_period_key(part) and (in_epochs or type(present) is int):
        if parse_epochs(value) is not None:
            return value
        if isinstance(value, str):
            raise UserError(f"{value!r} is not a period", PERIOD_FIX)
        return fit(value, 1 if in_epochs else present)
    return fit(value, present)


def fit_target(value: Any) -> Any:
    """`value` for a `_target_`: a dotted name, whatever was there.

    Raises:
        TypeError: it is not a string.
    """
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is not the dotted name of a class or function")
    return value


def is_interpolation(value: Any) -> bool:
    """Whether a value refers to other keys, so that its type is known only later."""
    return isinstance(value, str) and "${" in value


def type_name(value: Any) -> str:
    """The type of a value as messages name it."""
    name = type(value).__name__
    return _NAMES.get(name, name)


def _are_sets(value: Any) -> bool:
    sets = value if isinstance(value, list | ListConfig) else [value]
    return all((isinstance(one, str) and one) or isinstance(one, dict) or OmegaConf.is_dict(one) for one in sets)


def _fit_null(present: Any) -> None:
    if isinstance(present, (bool, int, float)):
        raise _misfit(None, present)


def _fit_number(value: Any, present: float) -> float:
    if isinstance(present, float) and isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            raise _misfit(value, present) from None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _misfit(value, present)


def _fit_list(value: Any, present: Any) -> list:
    if not isinstance(value, (list, ListConfig)):
        raise _misfit(value, present)
    present = OmegaConf.to_container(present, resolve=False) if OmegaConf.is_config(present) else present
    value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    if len({type(item) for item in present}) != 1 or is_interpolation(present[0]):
        return value
    if type(present[0]) is int:
        # Whole numbers here don't mean that others must be whole: aspect ratios [1, 2] may become [0.5, 1].
        for item in value:
            _fit_item(item, float(present[0]))
        return value
    return [_fit_item(item, present[0]) for item in value]


def _fit_item(item: Any, template: Any) -> Any:
    return item if item is None or is_interpolation(item) else fit(item, template)


def _fit_group(value: Any, present: Any) -> Any:
    keys = [str(key) for key in present]
    if not (isinstance(value, dict) or OmegaConf.is_dict(value)):
        group = f"a group with keys {', '.join(keys)}" if keys else "a group of keys, empty as yet"
        raise TypeError(f"it is {group}, and {value!r} is of type {type_name(value)}")
    if "_target_" in keys and "_target_" not in value:
        raise TypeError("it is a group with a _target_, and the new one, which replaces all of it, has none")
    return value


def _misfit(value: Any, present: Any) -> TypeError:
    shown = "null" if value is None else f"{value!r} of type {type_name(value)}"
    present_text = repr(OmegaConf.to_container(present) if OmegaConf.is_config(present) else present)
    present_text = present_text if len(present_text) <= 60 else present_text[:57] + "..."
    return TypeError(f"{shown} doesn't fit: the present value {present_text} is of type {type_name(present)}")
