"""Ctrl-C ends a tool with one line, also before `run_tool` is there to catch it, and within imports."""

import contextlib
import os
import signal
import sys
from types import FrameType

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
MESSAGE = "error: interrupted"

_is_caught = False
_has_come = False


def end_tool_on_interrupt() -> None:
    """Let Ctrl-C end this process if it runs a tool of ours, and is not to ignore Ctrl-C, as in a shell's background.

    Where a library imports or is called back, `KeyboardInterrupt` would get lost, or become another error.
    """
    if _runs_tool() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def interrupts_are_caught() -> None:
    """From here on Ctrl-C outside of imports is a `KeyboardInterrupt`, so that all that is open is closed."""
    global _is_caught
    _is_caught = True


def comes_from_interrupt(error: BaseException | None) -> bool:
    """Whether an error is a `KeyboardInterrupt`, or one that came up while that went on its way.

    Code in C that calls Python back may make another error of it, which does not tell.
    """
    if _has_come and error is not None:
        return True
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _runs_tool() -> bool:
    script = getattr(sys.modules["__main__"], "__file__", None)
    package = os.path.dirname(os.path.realpath(__file__))
    places = [os.path.join(parent, "tools") for parent in (package, os.path.dirname(package))]
    return bool(script) and os.path.dirname(os.path.realpath(script)) in places


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _has_come
    _has_come = True
    if _is_caught and not _is_importing(frame):
        raise KeyboardInterrupt
    with contextlib.suppress(Exception):  # it may be at work just now
        sys.stdout.flush()
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_INTERRUPTED)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
