"""Command lines with flags and config overrides in any order.

Imports nothing heavy: `--help` must answer at once.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from xray_lazy.command_line import paths_or_overrides
from xray_lazy.config.suggest import did_you_mean, nearest

_HELP = """KEY=VALUE sets a key of the config, +KEY=VALUE adds one, ~KEY removes one; before, between or after
the flags: train.max_iter=5000 optimizer.lr=1e-3 ~hooks.early_stopping"""


def parse_with_overrides(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, list[str]]:
    """Parse a command line into the flags' values and the overrides, both in their order.

    What is neither a flag nor a flag's value is an override; so is all that follows `--`. Overrides are not read here:
    `apply_overrides` does. Of a path, `~/` becomes the home folder. Flags can't be abbreviated. Leaves the process with
    exit code 2 where a flag is unknown.

    Args:
        parser: takes flags with a fixed number of values each, and no positional arguments.
        argv: the command line; None for that of the process.

    Raises:
        ValueError: `parser` takes arguments that would swallow overrides.
    """
    _prepare(parser)
    argv = list(sys.argv[1:] if argv is None else argv)
    end = argv.index("--") if "--" in argv else len(argv)
    _refuse_unknown_flags(parser, argv[:end])
    namespace, rest = parser.parse_known_args(argv[:end])
    for argument in rest:
        if argument.startswith("-"):
            parser.error(_unknown_flag(parser, argument))
    return namespace, paths_or_overrides(parser, rest + argv[end + 1 :])


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Refuse parsers that can't be mixed with overrides; put the overrides into the help."""
    for action in parser._actions:
        if not action.option_strings or action.nargs in ("?", "*", "+", argparse.REMAINDER):
            raise ValueError(f"{action.dest}: takes any number of values, so it would swallow overrides")
    parser.allow_abbrev = False
    if all(group.title != "overrides" for group in parser._action_groups):
        usage = parser.format_usage().removeprefix("usage: ").strip()
        parser.usage = f"{usage} [KEY=VALUE ...]".replace("%", "%%")
        parser.add_argument_group("overrides", _HELP)


def _refuse_unknown_flags(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    """Before argparse sees them: it would first complain about required flags, which may be the misspelled ones."""
    for argument in argv:
        if argument.startswith("--") and argument.partition("=")[0] not in _flags(parser):
            parser.error(_unknown_flag(parser, argument))


def _unknown_flag(parser: argparse.ArgumentParser, argument: str) -> str:
    flag = argument.partition("=")[0]
    # A dot in the name or several dashes inside: a key of the config with dashes put before it.
    if re.fullmatch(r"--?[+~]*[\w-]+(\.[\w-]+)+", flag):
        return f"unknown flag {flag}; overrides are written without dashes: {argument.lstrip('-')}"
    near = nearest(flag, _flags(parser)) or nearest(f"-{flag}", _flags(parser))
    return f"unknown flag {flag}; {did_you_mean(near) or '--help lists the flags'}"


def _flags(parser: argparse.ArgumentParser) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings]
