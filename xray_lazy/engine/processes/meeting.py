"""Where the processes of a run meet: a store that each reaches, waited for with words and with an end."""

import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from xray_lazy.errors import UserError

if TYPE_CHECKING:
    from torch.distributed import Store, TCPStore

WAIT_SECONDS = 600  # for other machines and processes to start
SAY_SECONDS = 5  # wait so long before saying so
SAY_LATER_SECONDS = 30  # where the start of a GPU takes some, too
STORE_TIMEOUT = timedelta(seconds=60)


def check_url(url: str) -> tuple[str, int]:
    """Host and port of tcp://HOST:PORT."""
    found = re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[^/:\s]+):(\d+)", url)
    if not found or not 0 < int(found[2]) < 65536:
        raise UserError(f"--dist-url {url} is not tcp://HOST:PORT", "give machine 0's name and a free port of it")
    return found[1].strip("[]"), int(found[2])


def open_store(host: str, port: int) -> "TCPStore":
    """A store in this process; port 0 takes any free one, which nobody else can get in between."""
    import torch.distributed

    try:
        return torch.distributed.TCPStore(host, port, is_master=True, wait_for_workers=False, timeout=STORE_TIMEOUT)
    except (RuntimeError, ValueError) as error:  # torch's network errors are RuntimeErrors
        reason = "the port is in use" if "EADDRINUSE" in str(error) else str(error).splitlines()[0]
        raise UserError(
            f"can't open {host}:{port}, where the processes are to meet: {reason}",
            "give another port in --dist-url, or --master-port with torchrun; this is the run's first machine",
        ) from None


def reach_store(host: str, port: int) -> "TCPStore":
    """The store that another process opens or has opened."""
    import torch.distributed

    wait = _Wait(f"the run's first process at {host}:{port}")
    while True:
        try:
            socket.create_connection((host, port), timeout=2).close()
            return torch.distributed.TCPStore(host, port, is_master=False, timeout=STORE_TIMEOUT)
        except (OSError, RuntimeError) as error:
            wait.go_on(str(error).splitlines()[0])


def meet(store: "Store", name: str, number: int, count: int) -> None:
    """Return when all `count` of a kind, such as machines, have come; this one is `number`.

    Raises:
        UserError: one does not come, or two have the same number.
    """
    if store.add(f"{name}_{number}", 1) > 1:
        raise UserError(
            f"there are two with the number {number} among the run's {count} {name}s",
            f"give each {name} a number of its own, from 0; and each run another port",
        )
    wait = _Wait("")
    while missing := [other for other in range(count) if not store.check([f"{name}_{other}"])]:
        wait.what = f"{name} {', '.join(map(str, missing))} of {count}"
        wait.go_on("it has not started, or can't reach this one")


@contextmanager
def said_if_long(text: str) -> Iterator[None]:
    """Print a line where what is done in it, which can't look at the time itself, takes long."""
    timer = threading.Timer(SAY_LATER_SECONDS, print, (text,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Wait:
    """Waits in short steps, in which Ctrl-C is heard."""

    def __init__(self, what: str):
        self.what, self._start, self._said = what, time.monotonic(), False

    def go_on(self, reason: str) -> None:
        waited = time.monotonic() - self._start
        if waited > WAIT_SECONDS:
            raise UserError(
                f"waited {WAIT_SECONDS // 60} minutes in vain for {self.what}: {reason}",
                "start all machines within that time, with the same --dist-url, and let its port through firewalls",
            )
        if waited > SAY_SECONDS and not self._said:
            self._said = True
            text = f"waiting for {self.what}, for up to {WAIT_SECONDS // 60} minutes ({reason})"
            print(text, file=sys.stderr, flush=True)
        time.sleep(0.2)
