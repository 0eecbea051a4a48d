"""Values as text for a command line of overrides, in Hydra's grammar."""

import os
import re
from collections.abc import Mapping
from typing import Any


def override(key: str, value: Any) -> str:
    """`key=text`, which `xray_lazy.config.apply_overrides` reads back as `value`."""
    return f"{key}={value_text(value)}"


def value_text(value: Any) -> str:
    """Plain data as text: numbers, flags, null, text, and lists and groups of them; text only quoted where needed.

    Paths are text, and NumPy's numbers and arrays are plain ones.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and _reads_as_itself(value):
        return value
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif hasattr(value, "tolist"):  # some of NumPy's numbers are Python's, too, but don't look like them
        value = value.tolist()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # backslashes count as such only before a quote
        escaped = re.sub(r'(\\*)("|\Z)', lambda match: match[1] * 2 + match[2].replace('"', '\\"'), value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(child)}" for key, child in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    return repr(value)


def _reads_as_itself(text: str) -> bool:
    """Whether Hydra reads the bare text as that very string."""
    return re.fullmatch(r"[A-Za-z_/][\w/.\-]*", text, re.ASCII) is not None and text.lower() not in _WORDS


# which are not text without quotes
_WORDS = ("null", "none", "true", "false", "nan", "inf")
