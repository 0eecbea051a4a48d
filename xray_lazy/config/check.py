"""Find what is wrong in a config before anything is built: targets, their arguments, references, missing values."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xray_lazy.config.faults import Fault
from xray_lazy.config.keys import (
    absent_part,
    all_keys,
    first_line,
    join_key,
    parts_of,
    read,
    reference_fix,
    walk,
    written,
)
from xray_lazy.config.names import dotted_name, locate
from xray_lazy.config.suggest import did_you_mean, nearest, nearest_keys
from xray_lazy.errors import UserError

SHOWN_REFERENCES = 3
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_config(config: DictConfig, runtime_arguments: Mapping[str, Iterable[str]] | None = None) -> list[Fault]:
    """All faults of `config`, in the order of its keys. Modules are imported; nothing is called.

    Args:
        config: the config of an experiment.
        runtime_arguments: arguments that a program adds itself before it instantiates a node, so that the config
            needn't have them: dotted key, in which `*` matches anything, to argument names, such as
            `{"optimizer.params": ["model"]}`.
    """
    runtime_arguments = runtime_arguments or {}
    faults = []
    broken: dict[str, list[Fault]] = {}  # references, by what they lack
    for key, container, part in walk(config):
        if OmegaConf.is_missing(container, part):
            faults.append(Fault(key, "has no value yet", f"give it one: {key}=VALUE"))
        elif OmegaConf.is_interpolation(container, part):
            for fault in _reference_faults(config, key, container, part):
                faults.append(fault)
                if lacked := absent_part(config, written(container)[part]):
                    broken.setdefault(lacked, []).append(fault)
        elif OmegaConf.is_dict(child := container[part]) and "_target_" in parts_of(child):
            given = {
                name for pattern, names in runtime_arguments.items() if fnmatchcase(key, pattern) for name in names
            }
            faults += _call_faults(key, child, given)
    for lacked, references in broken.items():
        faults = _as_one(config, faults, lacked, references)
    return faults


def _as_one(config: DictConfig, faults: list[Fault], lacked: str, references: list[Fault]) -> list[Fault]:
    """The faults, with one for several references to what the config lacks, and none where that is told of anyway."""
    others = [fault for fault in faults if fault not in references]
    if any(fault.key == lacked for fault in others):
        return others
    if len(references) == 1:
        return faults
    names = ", ".join(fault.key for fault in references[:SHOWN_REFERENCES])
    more = f" and {len(references) - SHOWN_REFERENCES} more" if len(references) > SHOWN_REFERENCES else ""
    message = f"the config has no such key, or nothing in it, but these refer to it: {names}{more}"
    near = did_you_mean([key for key in nearest_keys(lacked, all_keys(config)) if key != lacked])
    place = faults.index(references[0])
    before = [fault for fault in faults[:place] if fault not in references]
    fix = f"set it again, or what refers to it; {near}" if near else "set it again, or what refers to it"
    return [*before, Fault(lacked, message, fix), *others[len(before) :]]


def _reference_faults(config: DictConfig, key: str, container: Any, part: Any) -> Iterator[Fault]:
    try:
        read(container, part)
    except (OmegaConfBaseException, RecursionError) as error:
        text = written(container)[part]
        yield Fault(key, f"{text} leads nowhere: {first_line(error)}", reference_fix(config, text))


def _call_faults(key: str, node: DictConfig, given: set[str]) -> Iterator[Fault]:
    """What is wrong with one node that describes a call."""
    if OmegaConf.is_interpolation(node, "_target_") or OmegaConf.is_missing(node, "_target_"):
        return  # reported at its own key
    target = node["_target_"]
    if isinstance(target, str):
        try:
            target = locate(target)
        except UserError as error:
            yield Fault(join_key(key, "_target_"), error.message, error.fix)
            return
    if OmegaConf.is_config(target):
        return  # the call's function is itself made by a call
    if not callable(target):
        message = f"{node['_target_']} is a {type(target).__name__}, which can't be called"
        yield Fault(join_key(key, "_target_"), message, "name a class or a function")
        return
    yield from _argument_faults(key, target, [part for part in parts_of(node) if part != "_target_"], given)


def _argument_faults(key: str, target: Callable, arguments: list, given: set[str]) -> Iterator[Fault]:
    try:
        parameters = inspect.signature(target).parameters
    except (ValueError, TypeError):
        return  # some functions in C say nothing about their arguments
    name = getattr(target, "__qualname__", None) or dotted_name(target) or repr(target)
    known = [parameter.name for parameter in parameters.values() if parameter.kind in _BY_NAME]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for argument in arguments:
        if argument not in known and not takes_any:
            near = nearest(str(argument), known)
            fix = did_you_mean(near) or f"it takes {', '.join(known) or 'no arguments'}"
            yield Fault(join_key(key, argument), f"{name} has no argument {argument}", fix)
    for parameter in parameters.values():
        if parameter.default is not inspect.Parameter.empty or parameter.name in given:
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            message = f"{name} takes {parameter.name} by position only, and a config gives arguments by name"
            yield Fault(key, message, "wrap it in a function that takes it by name")
        elif parameter.kind in _BY_NAME and parameter.name not in arguments:
            argument_key = join_key(key, parameter.name)
            yield Fault(argument_key, f"{name} needs the argument {parameter.name}", f"add it: +{argument_key}=VALUE")
