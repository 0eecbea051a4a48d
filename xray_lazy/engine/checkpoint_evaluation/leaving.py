"""Leave in order on SIGTERM, SIGINT and SIGHUP."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from xray_lazy.utils.interruption import ENDING, heard


class Leaving(BaseException):
    """Someone asked this process to end; the text says how. Not an `Exception`: nobody may take it for a failure."""


class LeaveOnSignal:
    """A context in which the signals raise `Leaving` wherever the process is, but for what is `uninterrupted`.

    A second SIGINT ends the process at once.
    """

    def __init__(self) -> None:
        self._asked = ""
        self._may_raise = True

    def __enter__(self) -> "LeaveOnSignal":
        self._hearing = heard(ENDING, self._on_signal)
        self._hearing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hearing.__exit__(None, None, None)

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """A signal that comes inside is heard at the end."""
        self._may_raise = False
        try:
            yield
        finally:
            self._may_raise = True
        if self._asked:
            raise Leaving(self._asked)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = signal.Signals(number).name
        if self._may_raise:
            raise Leaving(self._asked)
