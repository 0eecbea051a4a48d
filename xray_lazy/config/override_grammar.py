"""Read one override, `a.b=v`, `+a.b=v`, `++a.b=v` or `~a.b`, by Hydra's grammar."""

import functools
import os
import re
import shlex
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from xray_lazy.config.keys import first_line
from xray_lazy.errors import UserError

# `~/` or `~name/` where a text begins in a value without quotes
HOME = r"(?<![^\[{,:= ])~[\w.-]*(?=/|$)"


@dataclass(frozen=True)
class Change:
    """One override, read: which key, what to do, and the new value."""

    text: str
    parts: tuple[str, ...]
    value: Any
    has_value: bool
    adds: bool
    forces: bool
    removes: bool

    @property
    def key(self) -> str:
        return ".".join(self.parts)

    @property
    def value_text(self) -> str:
        return self.text.partition("=")[2]


def parse_override(text: str) -> Change:
    """Read an override.

    Beyond Hydra's grammar, list items may be written `a[0].b` as well as `a.0.b`, unquoted values may hold `=`,
    and `None` is read as `null`.

    Raises:
        UserError: it is not in the grammar, or asks for several values at once (a sweep).
    """
    override = _parse(text)
    value = override.value()
    if override.is_sweep_override() or isinstance(value, Glob):
        raise UserError(
            f"{text} is a sweep, and a run takes one value for each key",
            f"tools/submit.py makes an array of runs of it; a list is written {override.key_or_group}=[1,2]",
        )
    if override.package is not None or "/" in override.key_or_group or not override.key_or_group:
        raise UserError(f"{text}: the part before = is not a key", "keys are names joined by dots: train.max_iter=5000")
    has_value = override.value_type is not None
    return Change(
        text=text,
        parts=tuple(override.key_or_group.split(".")),
        value=None if has_value and text.partition("=")[2].strip() == "None" else value,
        has_value=has_value,
        adds=override.is_add(),
        forces=override.is_force_add(),
        removes=override.is_delete(),
    )


def expand_sweep(text: str) -> list[str]:
    """The overrides of one value each that `text` means: `a=1,2` is `a=1` and `a=2`; itself where it is no sweep.

    Raises:
        UserError: it is not in the grammar, or its values can't be listed.
    """
    override = _parse(text)
    if isinstance(override.value(), Glob) or override.is_interval_sweep():
        raise UserError(f"{text}: its values can't be listed", f"name them: {override.key_or_group}=1,2,3")
    if not override.is_sweep_override():
        return [text]
    if override.is_delete():
        raise UserError(f"{text} removes a key, and has several values", "give one value, or none")
    key = text.partition("=")[0]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _parse(text: str) -> Override:
    key, equals, value = text.partition("=")
    key = re.sub(r"\[(\d+)\]", r".\1", key)
    try:
        return _parser().parse_override(key + equals + value)
    except HydraException as error:
        # Hydra wants `=` in a value escaped; without quotes or calls around it there is only one reading.
        if "=" in value and not re.search(r"""["'()\\]""", value):
            try:
                return _parser().parse_override(key + equals + value.replace("=", r"\="))
            except HydraException:
                pass
        reason = first_line(error).rstrip(":") if equals else "it has no ="
        raise UserError(f"can't read the override {text}: {reason}", _grammar_fix(text, key, value)) from None


def _grammar_fix(text: str, key: str, value: str) -> str:
    if "=" not in text:
        return "write KEY=VALUE to set a key, +KEY=VALUE to add one, ~KEY to remove one"
    try:
        _parser().parse_override(f"{key}=1")
    except HydraException:
        return "keys are names of letters, digits, _ and - joined by dots, with no space around them and the ="
    if re.search(HOME, value):
        home = re.sub(HOME, lambda match: os.path.expanduser(match[0]), value)
        return f"no shell puts in the home folder there: write {shlex.quote(f'{key}={home}')}"
    if '"' in value or "'" in value:
        return "close each quote, and put quotes around the whole value"
    return (
        f"put quotes around the value, and others for the shell: {shlex.quote(f'{key}=' + chr(34) + value + chr(34))}"
    )
