"""Evaluation results as text tables, for the log and the terminal."""

import math
from collections.abc import Mapping

from tabulate import tabulate

CATEGORY_PREFIX = "AP-"


def format_results(results: Mapping[str, Mapping[str, float]], instances: Mapping[str, int] | None = None) -> str:
    """A summary table and, where there are classes, a table of each class's AP, box and mask side by side.

    Args:
        results: what `CocoEvaluator.evaluate` returns, percent by metric by kind (`bbox`, `segm`).
        instances: how many instances the ground truth has, by class; a column more where given.

    Returns:
        Lines of plain text; `-` means that nothing could be measured.
    """
    if not results:
        return "no results"
    summary_names = list(dict.fromkeys(n for values in results.values() for n in values if not _is_category(n)))
    summary = [[kind, *(_cell(values.get(name)) for name in summary_names)] for kind, values in results.items()]
    tables = [_table(summary, ["", *summary_names])]
    names = list(dict.fromkeys(n for values in results.values() for n in values if _is_category(n)))
    if names:
        rows = []
        for name in names:
            category = name.removeprefix(CATEGORY_PREFIX)
            count = [] if instances is None else [str(instances.get(category, 0))]
            rows.append([category, *count, *(_cell(values.get(name)) for values in results.values())])
        headers = ["class", *([] if instances is None else ["instances"]), *(f"{kind} AP" for kind in results)]
        tables.append(_table(rows, headers))
    return "\n\n".join(tables)


def _is_category(name: str) -> bool:
    return name.startswith(CATEGORY_PREFIX)


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"


def _table(rows: list[list[str]], headers: list[str]) -> str:
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=align if rows else None)
