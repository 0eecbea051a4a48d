"""Evaluation results as text tables, for the log and the terminal."""

import math
import re
from collections.abc import Mapping, Sequence

from tabulate import tabulate

_OF_CLASS = re.compile(r"(AP|P_D@[\d.]+|P_FA@[\d.]+)-(.*)", re.DOTALL)


def format_results(results: Mapping[str, Mapping[str, float]], instances: Mapping[str, int] | None = None) -> str:
    """Summary tables, one for all kinds with the same figures, and, where there are classes, a table of theirs.

    Args:
        results: what `CocoEvaluator.evaluate` returns, percent by metric by kind (`bbox`, `segm`).
        instances: how many instances the ground truth has, by class; a column more where given.

    Returns:
        Lines of plain text; `-` means that nothing could be measured.
    """
    if not results:
        return "no results"
    alike: dict[str, dict[str, Mapping[str, float]]] = {}  # by their first figure
    for kind, values in results.items():
        alike.setdefault(next(iter(_summary(values)), ""), {})[kind] = values
    tables = [_summary_table(kinds) for kinds in alike.values()]
    columns: dict[str, dict[str, float]] = {}
    for kind, values in results.items():
        for name, value in values.items():
            if match := _OF_CLASS.fullmatch(name):
                header = match[1] if kind == "screening" else f"{kind} {match[1]}"
                columns.setdefault(header, {})[match[2]] = value
    if columns:
        rows = []
        for category in dict.fromkeys(name for column in columns.values() for name in column):
            count = [] if instances is None else [str(instances.get(category, 0))]
            rows.append([category, *count, *(_cell(column.get(category)) for column in columns.values())])
        tables.append(_table(rows, ["class", *([] if instances is None else ["instances"]), *columns]))
    return "\n\n".join(tables)


def _summary(values: Mapping[str, float]) -> list[str]:
    return [name for name in values if not _OF_CLASS.fullmatch(name)]


def _summary_table(results: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in results.values() for name in _summary(values)))
    rows = [[kind, *(_cell(values.get(name)) for name in names)] for kind, values in results.items()]
    return _table(rows, ["", *names])


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _table(rows: Sequence[list[str]], headers: list[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align if rows else None)
