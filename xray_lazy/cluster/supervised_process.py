"""One child process of a job's task: its output is passed on and remembered, and it does not outlive the task."""

import collections
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TAIL_LINES = 60  # torch may print a trace of 25 behind the reason
LONGEST_LINE = 2**14
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class SupervisedProcess:
    """Start `command`; what it prints goes to this process's standard output, too.

    Args:
        command: program and arguments.
        folder: to start it in.
        environment: of the process.
        stop_signal: what tells it to leave in order.

    SIGUSR2 is ignored in it until it has a handler of its own: SLURM signals all processes of a job, also those that
    still import their modules.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: str | Path,
        environment: Mapping[str, str],
        stop_signal: signal.Signals = signal.SIGUSR2,
    ):
        self._stop_signal, self._ask_again_at = stop_signal, float("inf")
        self._lines: collections.deque[bytes] = collections.deque([b""], maxlen=TAIL_LINES)
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_prepare_child,
        )

    @property
    def tail(self) -> list[str]:
        """The last lines that it printed; of a line that a progress bar wrote over, what was seen last."""
        lines = [line.decode(errors="replace").rstrip().split("\r")[-1] for line in self._lines]
        return [line for line in lines if line.strip()]

    def ask_to_stop(self) -> None:
        """Have it leave in order; SIGUSR2 is sent again each second, for it may not listen yet."""
        self._signal(self._stop_signal)
        if self._stop_signal == signal.SIGUSR2:
            self._ask_again_at = time.monotonic() + 1

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def wait(self, seconds: float = float("inf")) -> int | None:
        """Pass on its output until it ends; returns its exit code, or None where `seconds` have gone by."""
        deadline = time.monotonic() + seconds
        pipe = self._process.stdout.fileno()
        os.set_blocking(pipe, False)
        while self._process.poll() is None:
            now = time.monotonic()
            if now > deadline:
                return None
            if now > self._ask_again_at:
                self.ask_to_stop()
            if select.select([pipe], [], [], 1)[0] and not self._pass_on(pipe):
                time.sleep(0.1)  # it has closed its output and lives on
        while self._pass_on(pipe):
            pass
        return self._process.returncode

    def _pass_on(self, pipe: int) -> bool:
        try:
            chunk = os.read(pipe, 2**16)
        except BlockingIOError:  # at the end: a grandchild still holds the pipe
            return False
        with suppress(BrokenPipeError):
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
        first, *more = chunk.split(b"\n")
        self._lines[-1] = (self._lines[-1] + first)[-LONGEST_LINE:]
        self._lines.extend(more)
        return bool(chunk)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


def _prepare_child() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # where the task is killed, its process must not go on and write into the output folder
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
