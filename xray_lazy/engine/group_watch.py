"""A thread in each process of a group: it ends the process when another has failed, or when a step hangs.

The process itself may wait for the others in a collective, from which no exception would wake it.
"""

import faulthandler
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from torch.distributed import Store

LOOK_SECONDS = 0.5
STEP_SECONDS = 600
SLOWER_THAN_EVER = 20  # a step may also take so many times what the slowest has taken


class GroupWatch:
    """Of one process.

    Args:
        store: a connection of its own.
        rank, world_size: of this process.
    """

    def __init__(self, store: "Store", rank: int, world_size: int):
        self._store, self._rank, self._world_size = store, rank, world_size
        self._deadline, self._doing, self._slowest = float("inf"), "", 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="group_watch", daemon=True)
        self._thread.start()

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Within it minutes must do; the first one has no limit, since compilers and caches are at work."""
        start = time.monotonic()
        if self._slowest:
            self._doing = doing
            self._deadline = start + max(STEP_SECONDS, SLOWER_THAN_EVER * self._slowest)
        try:
            yield
        finally:
            self._deadline = float("inf")
        self._slowest = max(self._slowest, time.monotonic() - start)

    def is_first_failure(self) -> bool:
        """Whether no other process has failed before; asked once by each that fails."""
        try:
            return self._store.add("failures", 1) == 1
        except RuntimeError:  # the store has gone with the process that held it, which has failed
            return False

    def tell_others(self, code: int, hanging: str = "") -> None:
        """They end with the same exit code, and say where they are if one hangs; returns when they have noticed."""
        try:
            self._store.set("failed", f"{code} {hanging}")
        except RuntimeError:
            return
        time.sleep(3 * LOOK_SECONDS)

    def end_together(self) -> None:
        """Return when all processes have succeeded: until then the failure of another ends this one, too."""
        self._store.add("succeeded", 1)
        while self._store.add("succeeded", 0) < self._world_size:
            time.sleep(0.05)
        self._over.set()
        self._thread.join()
        self._store.add("left", 1)

    def wait_for_leaving(self) -> None:
        """For the process that holds the store: others may still ask it."""
        for _ in range(100):
            if self._store.add("left", 0) >= self._world_size:
                return
            time.sleep(0.05)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if time.monotonic() > self._deadline:
                self._report_hang()
            try:
                word = self._store.get("failed").decode() if self._store.check(["failed"]) else ""
            except RuntimeError:
                word = "1 "  # the process that held the store has ended
            if word and not self._over.is_set():
                self._end(word)

    def _report_hang(self) -> None:
        first = self.is_first_failure()
        print(
            f"error: {self._doing} has not ended in time on rank {self._rank} ({socket.gethostname()}): "
            "it hangs where the stacks below say, or waits there for another rank",
            "  fix: look at the rank whose stack is not in a collective: its disk, its data or its GPU; then --resume",
            sep="\n",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
        if first:
            self.tell_others(1, f"{self._doing} on rank {self._rank}")
        end_process(1)

    def _end(self, word: str) -> None:
        code, _, hanging = word.partition(" ")
        if hanging:
            print(f"rank {self._rank} was here when others hung ({hanging}):", file=sys.stderr, flush=True)
            faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)
        end_process(int(code))


def end_process(code: int) -> NoReturn:
    """At once: Python's own end would wait for the group, and the group for processes that wait."""
    for reader in multiprocessing.active_children():
        reader.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_watch: GroupWatch | None = None


def set_watch(watch: GroupWatch | None) -> None:
    """Of this process; None outside of a group."""
    global _watch
    _watch = watch


@contextmanager
def step_in_time(doing: str) -> Iterator[None]:
    """See `GroupWatch.step`; a single process may take its time."""
    if _watch is None:
        yield
        return
    with _watch.step(doing):
        yield
