"""Standard output and error that nobody reads: `| head -1`, a pager that is left open, a log collector that hangs."""

import os
import select

STALLED_SECONDS = 1.0  # a reader that is only slow takes something within it


def print_nowhere(number: int) -> None:
    """What is printed to this descriptor from here on is lost."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def leave_stalled() -> None:
    """In a signal's handler: what waits to be printed where nobody takes it is lost, and so doesn't hold up the end.

    A write that the signal has interrupted is tried again behind the handler, and then goes nowhere, too.
    """
    for number in (1, 2):
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        if not poll.poll(1000 * STALLED_SECONDS):
            print_nowhere(number)
