"""What a class of a config says of its arguments, as a fault of the innermost node that can't be built."""

import inspect
import re
import reprlib
import textwrap
import traceback
from typing import Any

from detectron2.config import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from xray_lazy.config import Fault
from xray_lazy.config.keys import describes_call, join_key, read_or_none, walk
from xray_lazy.config.names import dotted_name, target_of
from xray_lazy.engine.weights.weightless import build_weightless
from xray_lazy.errors import UserError

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 40
_MAY_BE_NULL = re.compile(r"None|Optional|Any|\bobject\b")  # the text of a type
MOST_CHARACTERS = 300  # of the arguments, and of the reason


def build(key: str, node: Any) -> Any:
    """What the node at `key` describes.

    Raises:
        UserError: it can't be built.
    """
    try:
        return instantiate(node)
    except Exception as error:
        fault = fault_of_build(key, node, error)
        raise UserError(str(fault), fault.fix) from error


def fault_of_build(key: str, node: Any, error: Exception) -> Fault:
    """The fault behind an `error` of building `node`: that of a node below it, where one of these fails by itself.

    Args:
        key: of the node in its config.
        node: a node, or what has no `_target_`, such as options of our own.
        error: what building it gave.
    """
    below = list(walk(node, key)) if isinstance(node, DictConfig | ListConfig) else []
    for inner_key, container, part in reversed(below):  # the innermost first
        inner = None if OmegaConf.is_interpolation(container, part) else read_or_none(container, part)
        if describes_call(inner):
            try:
                build_weightless(inner)
            except Exception as inner_error:
                return _fault(inner_key, inner, inner_error)
    return _fault(key, node, error)


def _fault(key: str, node: Any, error: Exception) -> Fault:
    if isinstance(error, UserError):
        return Fault(key, error.message.removeprefix(f"{key}: "), error.fix)
    if isinstance(error, TypeError | AttributeError) and (null := _refused_null(node)):
        return Fault(
            join_key(key, null),
            f"it is null, which {_name(node)} doesn't take",
            "give it a value; a list of nothing is []",
        )
    what = _call(node) if describes_call(node) else "it"
    return Fault(key, f"{what} can't be built: {_reason(error)}", "correct its arguments")


def _refused_null(node: Any) -> str | None:
    """The first argument of a call that is null although neither its type nor its default is."""
    target = target_of(node) if describes_call(node) else None
    try:
        parameters = inspect.signature(target).parameters if callable(target) else {}
    except ValueError:  # of some functions in C
        return None
    for name, parameter in parameters.items():
        is_null = name in node and not OmegaConf.is_interpolation(node, name) and read_or_none(node, name) is None
        has_type = parameter.annotation is not parameter.empty
        if (
            is_null
            and has_type
            and parameter.default is not None
            and not _MAY_BE_NULL.search(str(parameter.annotation))
        ):
            return name
    return None


def _reason(error: Exception) -> str:
    text = str(error)
    if not text:  # a bare `assert`: what it asserts says more
        frames = traceback.extract_tb(error.__traceback__)
        text = frames[-1].line or "" if frames else ""
    return _shortened(f"{type(error).__name__}: {text}".removesuffix(": "))


def _call(node: DictConfig) -> str:
    """Class and arguments, as in Python: `Matcher(thresholds=[0.3, 0.7], labels=[0, -1, 1])`."""
    arguments = {name: read_or_none(node, name) for name in node if name != "_target_"}
    return f"{_name(node)}({_shortened(', '.join(f'{name}={_value(value)}' for name, value in arguments.items()))})"


def _value(value: Any) -> str:
    if describes_call(value):
        return f"{_name(value)}(...)"
    return _SHORT.repr(OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)


def _name(node: DictConfig) -> str:
    target = node["_target_"]
    return (target if isinstance(target, str) else dotted_name(target) or repr(target)).rpartition(".")[2]


def _shortened(text: str) -> str:
    return textwrap.shorten(text, MOST_CHARACTERS, placeholder=" ...")
