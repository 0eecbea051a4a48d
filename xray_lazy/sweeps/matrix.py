"""What trials that were trained on different sets find on each of several test sets, as a table and a heat map."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from xray_lazy.data.dataset_places import full_name, scanner_of
from xray_lazy.run_folder import RunFolder, number_or_none
from xray_lazy.sweeps.sweep_file import Metric, Sweep
from xray_lazy.sweeps.trials import Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TRAINED_ON = "dataloader.train.dataset.names"
ALL, UNSEEN = "mean", "mean of unseen"


@dataclass(frozen=True)
class SetMatrix:
    """A metric by what was trained on and what was tested on; the mean of trials that differ in other things only.

    Attributes:
        metric: task and figure, such as `segm/AP`.
        trained, tested: short names of the rows and columns; the last columns are means over the test sets, over all
            and over those of scanners that were not trained on.
        values: row by row; NaN where there is none.
    """

    metric: str
    trained: tuple[str, ...]
    tested: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


def matrix_of(sweep: Sweep, trials: Sequence[Trial]) -> SetMatrix | None:
    """That of the finished trials, where these have different training sets and several test sets each; else None."""
    if TRAINED_ON not in sweep.varied:
        return None
    metric = "/".join(sweep.metric.name.split("/")[-2:])
    rows = [
        (scanners_of(trial.parameters[TRAINED_ON]), _by_set(trial, sweep.metric, metric))
        for trial in trials
        if trial.state == "finished"
    ]
    return join_rows(metric, rows)


def join_rows(metric: str, rows: Iterable[tuple[tuple[str, ...], Mapping[str, float]]]) -> SetMatrix | None:
    """From the scanners of training sets and the metric by test set; None without several test sets."""
    found: dict[tuple[str, ...], list[Mapping[str, float]]] = {}
    for scanners, cells in rows:
        if cells:
            found.setdefault(scanners, []).append(cells)
    sets = list(dict.fromkeys(name for rows_of_one in found.values() for row in rows_of_one for name in row))
    if len(sets) < 2:
        return None
    places = {scanners: sorted(sets.index(one) for one in scanners if one in sets) for scanners in found}
    order = sorted(found, key=lambda scanners: (len(scanners), places[scanners]))
    values = []
    for scanners in order:
        cells = {name: _mean(row.get(name, math.nan) for row in found[scanners]) for name in sets}
        unseen = [value for name, value in cells.items() if scanner_of(name) not in scanners]
        values.append((*cells.values(), _mean(cells.values()), _mean(unseen)))
    return SetMatrix(metric, tuple("+".join(one) for one in order), (*sets, ALL, UNSEEN), tuple(values))


def format_matrix(matrix: SetMatrix) -> str:
    """A table for the terminal."""
    rows = [
        [name, *("-" if math.isnan(value) else f"{value:.4g}" for value in values)]
        for name, values in zip(matrix.trained, matrix.values, strict=True)
    ]
    head = [f"{matrix.metric}, trained on", *matrix.tested]
    align = ["left", *["right"] * len(matrix.tested)]
    return tabulate(rows, head, tablefmt="simple", disable_numparse=True, colalign=align)


def draw_matrix(matrix: SetMatrix) -> "Figure":
    """A heat map: a row for each training set, a column for each test set and for the means."""
    from plotly.graph_objects import Figure, Heatmap

    values = [[None if math.isnan(value) else value for value in row] for row in matrix.values]
    texts = [["" if value is None else f"{value:.4g}" for value in row] for row in values]
    cells = Heatmap(x=matrix.tested, y=matrix.trained, z=values, text=texts, texttemplate="%{text}", colorscale="Blues")
    figure = Figure(cells.update(hovertemplate="trained on %{y}<br>tested on %{x}<br>%{z:.4g}<extra></extra>"))
    figure.update_xaxes(title="tested on", side="top")
    figure.update_yaxes(title="trained on", autorange="reversed", automargin=True)
    return figure.update_layout(height=190 + 42 * len(matrix.trained), margin={"l": 120, "r": 30, "t": 70, "b": 20})


def _by_set(trial: Trial, metric: Metric, name: str) -> dict[str, float]:
    """The metric on each test set, at the iteration that the trial is judged by."""
    values = trial.intermediate_values
    if not values:
        return {}
    is_best = metric.value == "best"
    judged = next(i for i in values if values[i] == metric.best(list(values.values()))) if is_best else max(values)
    line = next((line for line in RunFolder(trial.folder).read_metrics() if line["iteration"] == judged), {})
    return by_set(line, name)


def by_set(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    """A metric such as `segm/AP` by the names of sets that it is logged of: `smith/segm/AP`."""
    ending = f"/{name}"
    cells = {key.removesuffix(ending): number_or_none(value) for key, value in metrics.items() if key.endswith(ending)}
    return {of: value for of, value in cells.items() if value is not None}


def scanners_of(names: Any) -> tuple[str, ...]:
    """Of training sets as a config names them."""
    references = [names] if isinstance(names, str | Mapping) else list(names)
    return tuple(scanner_of(full_name(reference)) for reference in references)


def _mean(values: Any) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan
