"""Dotted names of Python objects (`torch.optim.SGD`): find the object, and the name of an object."""

import builtins
import difflib
import enum
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.errors import UserError


def locate(name: str) -> Any:
    """The object with a dotted name; modules are imported, nothing is called.

    Submodules go before attributes of the same name, as in detectron2's `locate`.

    Raises:
        UserError: there is no such module or attribute (with near names), or a module fails while it is imported.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UserError(f"{name!r} is not a dotted name of a Python object", "write it like torch.optim.SGD")
    found, used = _follow(parts)
    if used < len(parts):
        where = ".".join(parts[:used])
        raise UserError(_absent(name, where, parts[used]), _near(found, where, parts[used]))
    return found


def target_of(node: Mapping) -> Any:
    """What a node calls, by its `_target_`; None where it has none.

    Raises:
        UserError: as `locate`.
    """
    target = node.get("_target_")
    return locate(target) if isinstance(target, str) else target


def dotted_name(value: Any) -> str | None:
    """The shortest name by which `locate` finds the very object `value`; None where there is none.

    Lambdas, objects made inside functions or config files, and instances have none.
    """
    if isinstance(value, enum.Enum):
        module, qualified = type(value).__module__, f"{type(value).__qualname__}.{value.name}"
    elif type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        module, _, qualified = str(value).rpartition(".")
    else:
        module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualified, str):
        return None
    parts = module.split(".")
    # The public name (detectron2.modeling.ResNet) outlives moves of the implementation behind it.
    names = [f"{'.'.join(parts[:count])}.{qualified}" for count in range(1, len(parts) + 1)]
    return next((name for name in names if _stands_for(name, value)), None)


def _stands_for(name: str, value: Any) -> bool:
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    try:
        found, used = _follow(parts)
    except UserError:
        return False
    if used < len(parts):
        return False
    # A classmethod is bound anew at each access.
    return found is value or (inspect.ismethod(value) and inspect.ismethod(found) and found == value)


def _follow(parts: list[str]) -> tuple[Any, int]:
    """The object that the longest start of `parts` names, and the length of that start."""
    found, used = _import_longest(parts)
    for index in range(used, len(parts)):
        try:
            found = getattr(found, parts[index])
        except AttributeError:
            return found, index
    return found, len(parts)


def _import_longest(parts: list[str]) -> tuple[Any, int]:
    """The module that the longest importable start of `parts` names, and the length of that start."""
    module: ModuleType | None = None
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        if module is not None and not hasattr(module, "__path__"):
            return module, count - 1
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                return (module, count - 1) if module is not None else _top_level(parts)
            raise _broken_import(name, error) from error
        except (Exception, SystemExit) as error:
            raise _broken_import(name, error) from error
    return module, len(parts)


def _top_level(parts: list[str]) -> tuple[Any, int]:
    """A name that starts with no module: a builtin such as `dict`, or an error."""
    if hasattr(builtins, parts[0]):
        return getattr(builtins, parts[0]), 1
    known = {name for name in sys.modules if "." not in name and not name.startswith("_")}
    near = difflib.get_close_matches(parts[0], known, n=3, cutoff=0.7)
    raise UserError(
        f"{'.'.join(parts)} can't be imported: there is no module {parts[0]}",
        did_you_mean(near) or f"correct the name, install {parts[0]}, or put the folder that has it into PYTHONPATH",
    )


def _broken_import(name: str, error: BaseException) -> UserError:
    fix = f"python -c 'import {name}' shows where"
    if isinstance(error, SystemExit):
        fix = "put what the module does as a script behind `if __name__ == '__main__':`"
    if isinstance(error, ModuleNotFoundError):
        fix = f"install the package that has {error.name}"
    return UserError(f"importing {name} fails: {type(error).__name__}: {error}", fix)


def _absent(name: str, where: str, part: str) -> str:
    return f"{name} can't be imported: {where} has no {part}"


def _near(holder: Any, where: str, part: str) -> str:
    names = [name for name in dir(holder) if not name.startswith("_")]
    if hasattr(holder, "__path__"):
        names += [module.name for module in pkgutil.iter_modules(holder.__path__)]
    near = nearest(part, names)
    return did_you_mean([f"{where}.{name}" for name in near]) or f"see what {where} defines"
