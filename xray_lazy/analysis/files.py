"""Write an analysis or a comparison into a folder: JSON, CSV tables, plots."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xray_lazy.analysis.analysis_plots import plot_comparison, plot_task
from xray_lazy.analysis.results import Analysis, Comparison, TaskResult
from xray_lazy.utils.atomic_file import write_json, write_text


def write_analysis(analysis: Analysis, folder: str | Path) -> Path:
    """Write analysis.json, and for each task tables `<task>_*.csv` and plots `<task>_*.png`; gives the folder."""
    folder = Path(folder)
    for task, result in analysis.tasks.items():
        for name, rows in _tables(result).items():
            write_text(folder / f"{task}_{name}.csv", table_text(rows))
        plot_task(task, result, folder)
    write_json(folder / "analysis.json", analysis.as_json(), indent=1)
    return folder


def write_comparison(comparison: Comparison, folder: str | Path) -> Path:
    """Write comparison.json, comparison.csv and a plot of each task; gives the folder."""
    folder = Path(folder)
    rows = [{"task": task, **asdict(one)} for task, differences in comparison.tasks.items() for one in differences]
    write_text(folder / "comparison.csv", table_text(rows))
    for task, differences in comparison.tasks.items():
        plot_comparison(task, comparison, differences, folder / f"{task}_comparison.png")
    write_json(folder / "comparison.json", comparison.as_json(), indent=1)
    return folder


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as CSV; empty fields for None and NaN. No rows give an empty text."""
    if not rows:
        return ""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_field(value) for value in row.values()])
    return stream.getvalue()


def _tables(result: TaskResult) -> dict[str, list[dict[str, Any]]]:
    groups = (("size", result.by_size), ("scanner", result.by_scanner), ("occlusion", result.by_occlusion))
    return {
        "classes": [_class_row(one) for one in result.classes],
        "errors": [asdict(kind) for kind in result.errors.kinds],
        "groups": [{"by": by, **asdict(group)} for by, members in groups for group in members],
        "pictures": [asdict(image) for image in result.worst_pictures],
        "label_suspects": [_flat(asdict(suspect)) for suspect in result.label_suspects],
    }


def _class_row(one) -> dict[str, Any]:
    curve = one.curve
    best = {"best_threshold": curve.best_threshold, "best_f1": curve.best_f1}
    best |= {name: getattr(curve, name)[curve.best] if curve.scores else math.nan for name in ("precision", "recall")}
    row = {name: value for name, value in vars(one).items() if isinstance(value, str | int | float)}
    return row | best | one.errors_shown


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Boxes as four columns each."""
    flat = {}
    for name, value in row.items():
        if name in ("box", "annotated_box"):
            values: Iterable = value or (None,) * 4
            flat |= {f"{name}_{side}": one for side, one in zip("xywh", values, strict=True)}
        else:
            flat[name] = value
    return flat


def _field(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
