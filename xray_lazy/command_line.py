"""How every tool ends: 0 done, 1 failure while running, 2 the person's to fix; tracebacks only with --debug."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

from xray_lazy.errors import EXIT_FAILURE, UserError
from xray_lazy.failure import Failure, raising_frame
from xray_lazy.utils.interruption import ending_signal, is_silent, signals_are_caught
from xray_lazy.utils.limits import Limits
from xray_lazy.utils.wording import clean_what_is_printed

EMPTY = "an empty argument; a variable of the shell may have no value"


def run_tool(main: Callable[[], int | None], debug: bool = False) -> None:
    """Call `main()` and leave the process with its exit code.

    Args:
        main: the tool's work; returns its exit code, or None for 0.
        debug: let exceptions through with their traceback.

    A `UserError` is printed as its message and fix; a full disk and a path that can't be used get messages of their
    own. Code of others that leaves Python, even with 0, has kept the tool from its work, and is a failure. A closed
    pipe is no error: what is printed from there on is lost, and the work goes on, unless it was to pass bytes on.
    Modules in the present folder can be imported, as with `python -m`, so that configs may name the user's own classes.
    """
    global _show_tracebacks
    _show_tracebacks = debug
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        clean_what_is_printed(stream)
    try:
        _refuse_without_docstrings()
        signals_are_caught()
        sys.path.append(_present_folder())  # last: a file there doesn't hide an installed package of the same name
        code = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # of what was written as bytes, and is of no use to anybody else
        code = EXIT_FAILURE
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and _is_own(error):
            raise
        if debug and not ending_signal(error):
            Failure.of(error).tell()
            raise
        code = report_error(error, is_silent(error))
    finally:
        signals_are_caught(False)
    sys.exit(code)


def _is_own(error: SystemExit) -> bool:
    """Whether the command line's parser or this package ends the tool, not a config or a class that it names."""
    frame, _ = raising_frame(error)
    return frame.f_globals.get("__name__", "").partition(".")[0] in ("argparse", "xray_lazy")


def _refuse_without_docstrings() -> None:
    if sys.flags.optimize > 1:  # detectron2 and its dependencies add to docstrings as they are imported
        raise UserError(
            "Python leaves out docstrings, without which detectron2 can't be imported", "unset PYTHONOPTIMIZE"
        )


def _present_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UserError("the folder that this was started in was deleted", "cd to one that is there") from None


def _open_closed_streams() -> None:
    """Where a standard stream was closed by the caller, the next file would get its number, and all that is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


_show_tracebacks = False


def report_error(error: BaseException, silently: bool = False) -> int:
    """Print, unless `silently`, and keep an error as the running tool ends with it; returns the exit code."""
    failure = Failure.of(error)
    failure.tell()
    if _show_tracebacks and not ending_signal(error):
        traceback.print_exception(error)
    elif not silently:
        print_error(failure.message, failure.fix)
    return failure.exit_code


def path(text: str) -> str:
    """A flag's or an argument's path, as argparse's `type`: `at_home`, and not empty, which would mean this folder."""
    return at_home(word(text))


def word(text: str) -> str:
    """A flag's text, as argparse's `type`: not empty, which would mean that the flag isn't given."""
    if not text.strip():
        raise argparse.ArgumentTypeError(EMPTY)
    return text


def refuse_idle(parser: argparse.ArgumentParser, given: argparse.Namespace, names: Iterable[str], beside: str) -> None:
    """Refuse those of the options called `names` that were given, as they have no effect `beside` others.

    Raises:
        UserError: there is one.
    """
    idle = [name for name in names if (getattr(given, name) or None) != (parser.get_default(name) or None)]
    if idle:
        flags = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
        listed = ", ".join(flags.get(name, "KEY=VALUE") for name in idle)
        raise UserError(f"{listed} {'has' if len(idle) == 1 else 'have'} no effect {beside}", "leave it out")


def at_home(text: str) -> str:
    """A path with the home folder in it, which no shell puts in behind `--output=`, or in quotes. `~`, `~/x`, `~user`
    and `~user/x` are as a shell has them; values of a config follow the same rule."""
    return os.path.expanduser(text)


def paths_or_overrides(parser: argparse.ArgumentParser, words: Iterable[str]) -> list[str]:
    """As `path`, of words that may be overrides: `~KEY` stays, also where a user has the key's name."""
    try:
        return [word if re.fullmatch(r"~[^/]+", word) else path(word) for word in words]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


def is_override(word: str) -> bool:
    """Whether a word is for the config: KEY=VALUE, +KEY=VALUE or ~KEY, and no file of such a name."""
    # os.path: an override may be longer than any file's name, at which pathlib raises
    return (word.startswith(("~", "+")) or "=" in word) and not os.path.exists(word)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A flag's whole number in a range, as argparse's `type`."""
    limits = Limits(least=least, most=most)

    def integer(text: str) -> int:
        return _within(int(text), limits)

    return integer


def real(**ends: float) -> Callable[[str], float]:
    """A flag's number in a range with the ends that `Limits` has, as argparse's `type`; never infinity or NaN."""
    limits = Limits(**ends)

    def number(text: str) -> float:
        return _within(float(text), limits)

    return number


def parse_size(text: str, least: int = 1) -> tuple[int, int]:
    """(width, height) from text like 1920x1080.

    Raises:
        UserError: it is written otherwise, or a side has fewer than `least` pixels.
    """
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip().lower(), re.ASCII)
    if not match or min(map(int, match.groups())) < least:
        smallest = f", of at least {least} each" if least > 1 else ""
        raise UserError(f"{text!r} is not an image size", f"write WIDTHxHEIGHT in pixels, e.g. 1920x1080{smallest}")
    return int(match[1]), int(match[2])


def _within(number: Any, limits: Limits) -> Any:
    if complaint := limits.complaint(number):
        raise argparse.ArgumentTypeError(complaint)
    return number


def print_error(message: str, fix: str) -> None:
    """Print one error to standard error, the fix on its own line."""
    print(f"error: {message}", file=sys.stderr)
    if fix:
        print(f"  fix: {fix}", file=sys.stderr)
    sys.stderr.flush()
