"""Two threads in each process of a group: they end it when another has failed or stopped, or a step hangs.

The process itself may wait for the others in a collective, from which no exception would wake it. One thread asks the
store, which may not answer; the other one decides, and never waits.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from xray_lazy.command_line import print_error
from xray_lazy.engine.processes.step_limit import LOOK_SECONDS, StepLimit, end_process, print_stacks, tell_in_time
from xray_lazy.errors import RunFailure

if TYPE_CHECKING:
    from torch.distributed import Store

# Nine minutes: C++ that holds Python's lock keeps a process silent, too. Less than any step may take, as those who wait
# in a step for a rank that stands still would else be ended for hanging, and it would be named nowhere.
SILENT_LOOKS = 1080
LOOKS_PER_BEAT = 10
UNANSWERED_LOOKS = 20  # after which the store, which answers at once, counts as stuck


class GroupWatch:
    """Of one process.

    Args:
        store: a connection of its own.
        rank, world_size: of this process.
        on_failure: is given the error that ends all, where it is seen here first; see `run_in_group`.
    """

    def __init__(self, store: "Store", rank: int, world_size: int, on_failure: Callable[[BaseException], object]):
        self._store, self._rank, self._world_size, self._on_failure = store, rank, world_size, on_failure
        self.limit = StepLimit()
        # of the next rank; and of the store, which the first rank may hold
        self._beats, self._answers, self._unanswered = 0, 0, 0
        self._is_complete = False
        self._end_word = ""
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True) for target in (self._listen, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def expect_all(self) -> None:
        """From now on all processes are there, and are to be heard; before, others wait for those that are late."""
        self._is_complete = True

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
        self._over.set()  # the store may go with the others, which is no failure any more
        time.sleep(3 * LOOK_SECONDS)

    def end_together(self) -> None:
        """Return when all processes have succeeded: until then the failure of another ends this one, too."""
        self._store.add("succeeded", 1)
        while self._store.add("succeeded", 0) < self._world_size:
            time.sleep(0.05)
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._store.add("left", 1)

    def wait_for_leaving(self) -> None:
        """For the process that holds the store: others may still ask it."""
        for _ in range(100):
            if self._store.add("left", 0) >= self._world_size:
                return
            time.sleep(0.05)

    def _listen(self) -> None:
        """Show that this process runs, and hear whether the next rank does, and whether any has failed."""
        neighbour = (self._rank + 1) % self._world_size
        while not self._over.wait(LOOK_SECONDS):
            try:
                if self._answers % LOOKS_PER_BEAT == 0:
                    self._store.add(f"beats_{self._rank}", 1)
                    self._beats = self._store.add(f"beats_{neighbour}", 0)
                self._end_word = self._store.get("failed").decode() if self._store.check(["failed"]) else ""
            except RuntimeError:
                self._end_word = "1 "  # the process that held the store has ended
            self._answers += 1

    def _watch(self) -> None:
        # looks are counted, not seconds: a process that was stopped itself must not blame the others
        silent_looks, beats, answers = 0, 0, 0
        while not self._over.wait(LOOK_SECONDS):
            self._unanswered = self._unanswered + 1 if answers == self._answers else 0
            is_silent = self._unanswered or (beats == self._beats and self._is_complete)
            silent_looks = silent_looks + 1 if is_silent else 0
            beats, answers = self._beats, self._answers
            if hanging := self.limit.look():
                self._report_hang(hanging)
            if silent_looks >= SILENT_LOOKS:
                self._report_silence()
            if self._end_word and not self._over.is_set():
                self._end(self._end_word)

    def _store_is_stuck(self) -> bool:
        return self._unanswered >= UNANSWERED_LOOKS

    def _report_silence(self) -> None:
        silent = 0 if self._store_is_stuck() else (self._rank + 1) % self._world_size
        message = f"rank {silent} has stood still for {SILENT_LOOKS * LOOK_SECONDS:.0f} seconds"
        fix = "it was stopped, or its machine is gone or frozen; then --resume"
        self._report(RunFailure(message, fix), "", f"rank {silent} stood still")

    def _report_hang(self, doing: str) -> None:
        error = RunFailure(
            f"{doing} has not ended in time on rank {self._rank} ({socket.gethostname()}): "
            "it hangs where its stacks say, or waits there for another rank",
            self.limit.fix
            or "look at the rank whose stack is not in a collective: its disk, its data or its GPU; then --resume",
        )
        self._report(error, f"{doing} on rank {self._rank}", f"{doing} hung")

    def _report(self, error: RunFailure, hanging: str, when: str) -> NoReturn:
        """End all: `hanging` lets the others say where they are."""
        answers = not self._store_is_stuck()  # else the others notice by themselves
        first = answers and self.is_first_failure()
        if first or not answers:
            tell_in_time(lambda: self._on_failure(error))
        else:
            tell_in_time(lambda: print_error(error.message, error.fix))
        tell_in_time(lambda: print_stacks(f"rank {self._rank} was here when {when}:\n"))
        if first:
            self.tell_others(1, hanging)
        end_process(1)

    def _end(self, word: str) -> None:
        code, _, hanging = word.partition(" ")
        if hanging:
            tell_in_time(lambda: print_stacks(f"rank {self._rank} was here when others hung ({hanging}):\n"))
        end_process(int(code))
