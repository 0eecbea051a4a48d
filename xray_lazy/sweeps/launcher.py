"""How a trial's training is started and stopped: the seam behind which other launchers than this machine's fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

OUTPUT = "output.txt"
"""In a trial's folder: what its processes print."""


class TrialHandle(Protocol):
    """A trial that was started."""

    identity: str
    """By which another worker can find it, after this one has died: a process, or a cluster's job."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal's number; None while it runs."""

    def stop(self) -> None:
        """Ask it to save and to leave: SIGTERM to all its processes."""

    def kill(self) -> None:
        """End it at once, with all its processes."""


class TrialLauncher(Protocol):
    """Starts trials, at most `capacity` of them at once."""

    capacity: int

    def start(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> TrialHandle:
        """Start `command` with what `environment` adds to this process's; its output is added to `OUTPUT`."""

    def end_leftover(self, identity: str) -> bool:
        """End what a dead worker may have left running under `identity`; False where that can't be known from here."""
