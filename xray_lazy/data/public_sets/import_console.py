"""What an import made, for people."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from xray_lazy.data.public_sets.declaration import Notes, PublicSet
from xray_lazy.data.public_sets.importing import Imported
from xray_lazy.utils.terminal import table_console
from xray_lazy.utils.wording import printable


def print_imported(made: Sequence[Imported], notes: Notes, declared: PublicSet) -> None:
    """A table of the sets, and a line for each kind of repair."""
    table = Table(box=None, header_style="bold")
    for column in ("set", "images", "empty", "items", "items of each class"):
        table.add_column(column, justify="left" if column in ("set", "items of each class") else "right")
    for one in made:
        classes = ", ".join(f"{printable(name)} {count:,}" for name, count in one.items.most_common())
        numbers = (f"{number:,}" for number in (one.images, one.empty, one.items.total()))
        table.add_row(*map(Text, (one.name, *numbers, classes)))
    table_console().print(table)
    for line in notes.lines():
        print(printable(line))
    print(f"{declared.title}: {declared.page}, {declared.licence}")
    if declared.protocol:
        print(f"its protocol: tools/analyze.py protocol {declared.protocol}")
