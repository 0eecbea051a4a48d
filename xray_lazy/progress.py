"""A progress bar over things, on a terminal's stderr."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

Thing = TypeVar("Thing")


def tracked(things: Iterable[Thing], total: int, title: str, is_shown: bool = True) -> Iterator[Thing]:
    """The things, with a bar that vanishes at their end, if it is to be shown and stderr is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        things, title, total, console=console, transient=True, disable=not (is_shown and console.is_terminal)
    )
