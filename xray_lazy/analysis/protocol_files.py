"""A published protocol's table on the terminal, and as JSON."""

import math
import os
from pathlib import Path

from rich.markup import escape

from xray_lazy.analysis.analysis_console import table_of, wide_console
from xray_lazy.analysis.published_protocols import ProtocolResult
from xray_lazy.utils.atomic_file import write_json


def protocol_file(protocol: str, folder: str | os.PathLike) -> Path:
    return Path(folder) / f"protocol_{protocol}.json"


def write_protocol(result: ProtocolResult, path: Path) -> None:
    write_json(path, result.as_json(), indent=1)


def print_protocol(result: ProtocolResult, path: Path) -> None:
    console = wide_console()
    on = f" on {escape(result.dataset)}" if result.dataset else ""
    console.print(f"[bold]{escape(result.origin)}[/]{on}\n{result.how}", soft_wrap=True)
    table = table_of(result.protocol, "images", *result.columns)
    for row in result.rows:
        values = ("-" if math.isnan(value) else f"{value:.2f}" for value in row.values)
        table.add_row(escape(row.name), str(row.images), *values)
    console.print(table)
    for note in result.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    console.print(f"results are in {escape(str(path))}", soft_wrap=True)
