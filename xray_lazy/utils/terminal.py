"""Tables and progress bars, where the output is a terminal and where it is a file."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Thing = TypeVar("Thing")
WIDTH_OF_FILES = 120  # of a line where the output is no terminal


def table_console(width_of_files: int = WIDTH_OF_FILES) -> "Console":
    """A console on stdout for tables: as wide as the terminal, and of one width in files, whoever reads them."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else width_of_files)


def tracked(things: Iterable[Thing], total: int, title: str, is_shown: bool = True) -> Iterator[Thing]:
    """The things, with a bar that vanishes at their end, if it is to be shown and stderr is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        things, title, total, console=console, transient=True, disable=not (is_shown and console.is_terminal)
    )
