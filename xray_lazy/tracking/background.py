"""Work that is done in order by a thread of its own, so that training doesn't wait for it."""

import queue
import threading
from collections.abc import Callable


class Background:
    """A thread that does what it is given, in this order.

    Args:
        name: of the thread.
        capacity: pieces of work that may wait.

    The work handles its own errors. The thread ends with the process, whatever it is at.
    """

    def __init__(self, name: str, capacity: int = 10_000):
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(capacity)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], None]) -> bool:
        """Have `work` done, without waiting for it; False if too much is waiting already, or it is closed."""
        if self._is_closed:
            return False
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            return False
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all is done that was given so far, at most `timeout` seconds; returns whether it is."""
        done = threading.Event()
        return self.do(done.set) and done.wait(timeout)

    def close(self) -> None:
        """End the thread once all is done, without waiting for it; nothing can be given any more."""
        self.do(None)
        self._is_closed = True

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()
