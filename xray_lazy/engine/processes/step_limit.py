"""What ends a process whose step never ends: of training, or of an evaluation that waits for its data."""

import faulthandler
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

from xray_lazy.command_line import print_error
from xray_lazy.failure import Failure

Item = TypeVar("Item")

LOOK_SECONDS = 0.5
STEP_SECONDS = 600
SLOWER_THAN_EVER = 20  # a step may also take this many times what the slowest has taken
FIRST_STEP_SECONDS = 7200  # in which compilers and caches are at work
WRITING_SECONDS = 5  # to a disk, which may be what hangs
CONSOLES = ("bdb", "pdb", "pydevd", "code", "IPython")


class StepLimit:
    """How long a step may take, in looks of a thread that the step can't hold up.

    Looks are counted, not seconds: a process that was stopped itself, as by Ctrl-Z, goes on where it was.
    """

    def __init__(self) -> None:
        self._doing, self._allowed, self._looks = "", float("inf"), 0
        self.fix = ""  # of what is done now; "" for that of any step
        self._slowest: dict[str, int] = {}  # looks, by kind of step

    @contextmanager
    def step(self, kind: str, number: int) -> Iterator[None]:
        """Within it minutes must do, but for the first one of its kind."""
        seconds = STEP_SECONDS if kind in self._slowest else FIRST_STEP_SECONDS
        slower = SLOWER_THAN_EVER * self._slowest.get(kind, 0) * LOOK_SECONDS
        with self.task(f"{kind} {number}", max(seconds, slower)):
            yield
        self._slowest[kind] = max(self._slowest.get(kind, 0), self._looks)

    @contextmanager
    def task(self, name: str, seconds: float, fix: str = "") -> Iterator[None]:
        """Within it so many seconds must do."""
        self._doing, self._looks, self._allowed, self.fix = name, 0, seconds / LOOK_SECONDS, fix
        try:
            yield
        finally:
            self._allowed = float("inf")

    def look(self) -> str:
        """Called every LOOK_SECONDS; tells what has not ended in time, if anything."""
        self._looks += 1
        return self._doing if self._looks > self._allowed and not _is_interactive() else ""


class LoneWatch:
    """Of a process that trains or evaluates without others."""

    def __init__(self) -> None:
        self.limit = StepLimit()
        threading.Thread(target=self._watch, name="step_limit", daemon=True).start()

    def _watch(self) -> None:
        while not (hanging := self.limit.look()):
            time.sleep(LOOK_SECONDS)
        message = f"{hanging} has not ended in time: it hangs where the stacks below say"
        fix = "look at the disk, the data or the GPU that it waits for; a training then goes on with --resume"
        tell_in_time(lambda: print_error(message, fix), Failure(message, fix).tell, print_stacks)
        end_process(1)


def _is_interactive() -> bool:
    """Whether the main thread waits for what a person types, or is a notebook's, which would go with it."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame:
        if frame.f_globals.get("__name__", "").partition(".")[0] in CONSOLES:
            return True
        frame = frame.f_back
    return False


def tell_in_time(*calls: Callable[[], object]) -> None:
    """Call them for some seconds only, each by itself: the disk or the console that they write to may be what hangs."""
    telling = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in telling:
        thread.start()
        thread.join(WRITING_SECONDS)


def print_stacks(headline: str = "") -> None:
    """Of all threads, in one piece: other ranks print theirs at the same time."""
    with open(os.memfd_create("stacks"), "r+", encoding="utf-8", errors="replace") as stream:
        faulthandler.dump_traceback(file=stream, all_threads=True)
        stream.seek(0)
        print(headline + stream.read(), end="", file=sys.__stderr__ or sys.stderr, flush=True)


def end_process(code: int) -> NoReturn:
    """At once: Python's own end would wait for the group, and the group for processes that wait."""
    for reader in multiprocessing.active_children():
        reader.terminate()
    tell_in_time(sys.stdout.flush, sys.stderr.flush)
    os._exit(code)


_limit: StepLimit | None = None


def set_limit(limit: StepLimit | None) -> None:
    """Of this process as a member of a group; None outside of one."""
    global _limit
    _limit = limit


@contextmanager
def step_in_time(kind: str, number: int) -> Iterator[None]:
    """See `StepLimit.step`."""
    if _limit is None:
        set_limit(LoneWatch().limit)
    assert _limit is not None
    with _limit.step(kind, number):
        yield


def each_in_time(kind: str, batches: Iterable[Item]) -> Iterator[Item]:
    """The batches, each with what is done with it as one step."""
    remaining = iter(batches)
    for number in itertools.count(1):
        with step_in_time(kind, number):
            try:
                batch = next(remaining)
            except StopIteration:
                return
            yield batch
