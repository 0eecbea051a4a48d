"""Ctrl-C, SIGTERM and a lost terminal end a tool with one line, also before `run_tool` catches them, and in imports."""

import atexit
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from xray_lazy.utils.console_streams import leave_stalled

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

ECHO_SECONDS = 1.0  # `timeout`, srun and terminals may send a signal to a process, and again to its group
# So long after the first one another signal ends the process at once. Only a person sends SIGINT again. SLURM sends
# SIGTERM to all processes of a job, and who started this one hands it on, maybe late.
INSISTING_SECONDS: dict[int, float] = {signal.SIGINT: 0, signal.SIGTERM: 5}
unfinished_files: set[str] = set()  # that this process writes under temporary names

_is_caught, _is_told = False, True
_came, _came_at = 0, 0.0  # the first signal, and when


class EndedBySignal(KeyboardInterrupt):
    """As Ctrl-C, by another signal."""

    def __init__(self, number: int):
        super().__init__(describe(number))
        self.number = number


def end_tool_on_signals() -> None:
    """Let `ENDING` signals end this process in order if it runs a tool of ours.

    Those that it is to ignore stay ignored: Ctrl-C in a shell's background, SIGHUP under nohup.
    Where a library imports or is called back, `KeyboardInterrupt` would get lost, or become another error.
    """
    if _runs_tool():
        # of the processes that torchrun or srun has started, which all get the signal, the first one tells it
        end_on_signals(is_told=(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0") == "0")


def end_on_signals(is_told: bool = True) -> None:
    """As `end_tool_on_signals`, in a process that a tool has started; without a word where another one tells it."""
    global _is_told
    _is_told = is_told
    for number in ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _end)
    os.register_at_fork(after_in_child=lambda: _set_all(signal.SIG_DFL))
    atexit.register(_ignore_signals)


def signals_are_caught(are_caught: bool = True) -> None:
    """From here on a signal outside of imports is a `KeyboardInterrupt`, so that all that is open is closed.

    A second one, if it is no echo of the first, ends the process at once.
    """
    global _is_caught
    _is_caught = are_caught


@contextlib.contextmanager
def heard(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals inside the block call `handler`, their echoes don't; a SIGHUP that this process is to ignore stays so."""
    came_at: dict[int, float] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        leave_stalled()
        now = time.monotonic()
        if number not in came_at or now - came_at[number] >= ECHO_SECONDS:
            came_at[number] = now
            handler(number, frame)

    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard_here = [number for number in numbers if not (is_deaf and number == signal.SIGHUP)]
    previous = {number: signal.signal(number, hear) for number in heard_here}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


class Insistence:
    """Tells of each signal that comes whether it shall end the process at once: one came before, and did not do."""

    def __init__(self) -> None:
        self._first_at: dict[int, float] = {}

    def __call__(self, number: int) -> bool:
        now = time.monotonic()
        return now - self._first_at.setdefault(number, now) > INSISTING_SECONDS.get(number, math.inf)


def describe(number: int) -> str:
    """What a tool says as it ends by a signal."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def ending_signal(error: BaseException | None) -> int:
    """The signal of a `KeyboardInterrupt`, or of an error that came up while that went on its way; 0 of others.

    Code in C that calls Python back may make another error of it, which does not tell.
    """
    if error is None or _came:
        return _came if error is not None else 0
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return getattr(error, "number", signal.SIGINT) if error is not None else 0


def signal_of_exit(code: int) -> int:
    """The `ENDING` signal that a process with this exit code was ended by, in order or not; 0 for others."""
    number = -code if code < 0 else code - 128
    return number if number in ENDING else 0


def is_silent(error: BaseException) -> bool:
    """Whether another process tells of the signal that an error comes from."""
    return bool(ending_signal(error)) and not _is_told


def error_of(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else EndedBySignal(number)


def _runs_tool() -> bool:
    script = getattr(sys.modules["__main__"], "__file__", None)
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    places = [os.path.join(parent, "tools") for parent in (package, os.path.dirname(package))]
    return bool(script) and os.path.dirname(os.path.realpath(script)) in places


def _end(number: int, frame: FrameType | None) -> None:
    global _came, _came_at
    leave_stalled()
    is_first, now = not _came, time.monotonic()
    if is_first:
        _came, _came_at = number, now
    elif now - _came_at < ECHO_SECONDS:
        return
    if is_first and _is_caught and not _is_importing(frame):
        raise error_of(number)
    with contextlib.suppress(Exception):  # it may be at work just now
        sys.stdout.flush()
    for path in list(unfinished_files):
        with contextlib.suppress(OSError):
            os.unlink(path)
    if _is_told and (is_first or _is_caught):  # else it was said
        os.write(2, f"error: {describe(number)}\n".encode())
    os._exit(128 + number)


def _ignore_signals() -> None:
    """At the end, when the exit code is known: the interpreter would set the system's handlers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the interpreter would do it, which a signal could not end any more
            stream.flush()
    _set_all(signal.SIG_IGN)


def _set_all(handler: signal.Handlers) -> None:
    """In place of `_end`: a process that a library forks ends as its parent wants it to, without a word."""
    for number in ENDING:
        if signal.getsignal(number) is _end:
            signal.signal(number, handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def end_with_parent() -> None:
    """In a process that multiprocessing has spawned: if its parent is killed, no one else ends it."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was spawned"

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent_watch", daemon=True).start()
