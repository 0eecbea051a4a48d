"""How many processes train together, from the view of a forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from detectron2.utils import comm

_is_alone: ContextVar[bool] = ContextVar("is_alone", default=False)


def world_size() -> int:
    """The number of processes; 1 inside of `alone`."""
    return 1 if _is_alone.get() else comm.get_world_size()


@contextmanager
def alone() -> Iterator[None]:
    """A forward pass that exchanges nothing with other processes: it may fail, or be repeated, in one of them."""
    token = _is_alone.set(True)
    try:
        yield
    finally:
        _is_alone.reset(token)
