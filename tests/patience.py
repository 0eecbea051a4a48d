"""How long a test waits for what another process does: the end of a hang, not of a slow machine."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PATIENCE = 600.0  # seconds


def exit_codes(processes: Sequence[BaseProcess], *printed: Path, seconds: float = PATIENCE) -> list[int | None]:
    """Those of processes, once all have ended; ones that don't are killed, which fails with what they have `printed`.

    Those of `tests.engine.quick_processes` print the stacks of their threads then.
    """
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    late = [process for process in processes if process.exitcode is None]
    for process in late:
        os.kill(process.pid, signal.SIGABRT)
        process.join(10)
        process.kill()
        process.join()
    words = [path.read_text() for path in printed if path.exists()]
    assert not late, "\n".join([f"{len(late)} of {len(processes)} processes did not end in {seconds:g} s", *words])
    return [process.exitcode for process in processes]


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition, which may be that a process has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain"
        time.sleep(0.02)
