"""Processes that read for a training process, which alone ends them.

A terminal signals the whole process group, and a batch system all processes, with SIGTERM: readers, which block it, go
on until the training process has saved. Its own word is another signal, for of two SIGTERM that come at once one is
lost, and with the wrong one it would wait for ever.
"""

import multiprocessing
import multiprocessing.popen_fork
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkContext, ForkProcess

END = getattr(signal, "SIGRTMIN", signal.SIGUSR1)  # which nobody else sends; only Linux has it


class _Popen(multiprocessing.popen_fork.Popen):
    def terminate(self) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, END)
                os.kill(self.pid, signal.SIGCONT)  # one that was stopped hears nothing before


class _Reader(ForkProcess):
    _Popen = staticmethod(_Popen)


class ReaderContext(ForkContext):
    """Starts readers, inside `signals_held`."""

    Process = _Reader


@contextmanager
def signals_held() -> Iterator[None]:
    """For processes that are started meanwhile, and all threads in them, these are blocked; here they come later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, END])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen_for_end() -> None:
    """In a reader: from now on `terminate` ends it, whatever it is at; before, that waits."""
    os.setpgrp()
    threading.Thread(target=_end, daemon=True).start()


def _end() -> None:
    signal.sigwait([END])
    os._exit(0)
