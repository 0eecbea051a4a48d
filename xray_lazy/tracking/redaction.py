"""Keep passwords and tokens out of what a run records of itself."""

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SHORTEST_SECRET = 8  # shorter values would hide half of an innocent text
_SECRET_VARIABLE = re.compile(r"(^|_)(\w*KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")
_WORDS = r"(?:password|passwd|secret|token|api_?key|access_?key|signature|sig)"
_SECRET_KEY = re.compile(rf"(^|[._-]){_WORDS}$", re.IGNORECASE)
_KEY = rf"\b(?:[\w-]*[_-])?{_WORDS}"
_PATTERNS = (
    # the log-in part of a URL
    (r"([a-z][a-z0-9+.-]*://)(?!git@)[^/\s'\"@]+@", rf"\1{HIDDEN}@"),
    # "api_key": "..."
    (rf"({_KEY}['\"]?\s?[=:]\s?)(['\"])[^'\"]{{8,}}\2", rf"\1\2{HIDDEN}\2"),
    # ?token=..., where a text without a digit may well be the name of a variable
    (rf"({_KEY}=)(?=[^\s'\"&,;()]*\d)[^\s'\"&,;()]{{8,}}", rf"\1{HIDDEN}"),
    # as GitHub, GitLab, Hugging Face, OpenAI, Slack and AWS make them
    (r"\b(?:gh[opsu]_|github_pat_|glpat-|hf_|sk-|xox[abp]-)[\w-]{16,}|\bAKIA[0-9A-Z]{16}\b", HIDDEN),
)


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """`text` with `***` in place of what looks like a secret.

    These are the log-in part of URLs, values beside a `password` or `api_key`, tokens of well-known services, and the
    values of environment variables such as `WANDB_API_KEY`, wherever they occur.
    """
    for name, value in environment.items():
        if _SECRET_VARIABLE.search(name.upper()) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return text


def argument_without_secrets(argument: str) -> str:
    """A word of a command, such as `--host` or `model.key=value`, with `***` in place of a secret."""
    key, equals, _ = argument.partition("=")
    return f"{key}={HIDDEN}" if equals and _SECRET_KEY.search(key) else without_secrets(argument)


def settings_without_secrets(value: Any) -> Any:
    """Nested dicts and lists with `***` in place of secret texts, by their keys and by what they look like."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if isinstance(item, str) and _SECRET_KEY.search(str(key)) else settings_without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [settings_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
