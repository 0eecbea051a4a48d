"""Whether a process of this machine lives, and is still the same."""

import os
from pathlib import Path


def process_start(pid: int) -> str | None:
    """When a process began, which tells it from a later one of its number; None where it is gone."""
    try:
        # after the name, which may have spaces in it
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else numbers[18]
    except OSError:
        return _exists(pid)


def _exists(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:  # not on Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # another person's
        pass
    return "at some time"
