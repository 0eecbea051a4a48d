"""Patterns for parts of a model by their dotted names: `backbone.bottom_up.res2`, `roi_heads.*.norm`."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.errors import UserError

INSIDE = ".*"


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is the part that `pattern` means, or lies inside of it; `*` matches anything, dots included."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern + INSIDE)


def part_name(pattern: str) -> str:
    """A pattern as the name of a part: `backbone.bottom_up.*` is `backbone.bottom_up`."""
    return pattern.removesuffix(INSIDE)


def check_patterns(patterns: Iterable[str], model: nn.Module, key: str) -> None:
    """See that each pattern means some parameter of `model`, trained or not.

    Args:
        key: of the patterns in the config, for the message.

    Raises:
        UserError: one means none; near names are given.
    """
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise UserError(f"{key}: {pattern!r} is no name of a part", "give names, such as backbone.bottom_up.res2")
        if not any(matches(pattern, name) for name in parameters):
            modules = [name for name, _ in model.named_modules() if name]
            near = nearest(part_name(pattern), [*modules, *parameters])
            parts = ", ".join(name for name, _ in model.named_children())
            raise UserError(
                f"{key}: {pattern!r} means no parameter of {type(model).__name__}",
                did_you_mean(near) or f"its parts are {parts}",
            )
