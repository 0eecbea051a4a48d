"""Why a trial's training has ended, from its exit code and what it printed."""

import re
import signal
from pathlib import Path

from xray_lazy.file_end import last_lines
from xray_lazy.sweeps.launcher import OUTPUT

STYLES = re.compile(r"\x1b\[[0-9;]*m")


def reason_of(code: int, folder: Path) -> str:
    """One line: the error that the training printed last, or the signal that ended it.

    Args:
        code: the exit code, negative for a signal.
        folder: of the trial, with its output.
    """
    lines = [line for line in (STYLES.sub("", line).strip() for line in last_lines(folder / OUTPUT)) if line]
    if code < 0:
        hint = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    last = errors[-1] if errors else (lines[-1] if lines else "it printed nothing")
    return f"it left before its end: {last}" if code == 0 else f"exit code {code}: {last}"
