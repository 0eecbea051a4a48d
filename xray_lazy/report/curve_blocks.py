"""Charts of what was logged over the iterations: losses, AP, learning rate, and all else that a model tells."""

import re
from collections.abc import Sequence

from xray_lazy.report.blocks import MOST_POINTS, Block, Chart, Charts, Note, Series
from xray_lazy.report.run_files import RunFiles

MOST_LINES = 24
MOST_OTHER_CHARTS = 24
NOT_CURVES = {"eta_seconds", "epoch", "images_seen", "iteration"}
SPEED = {"time", "data_time", "images_per_second", "max_memory_mb"}
_SUMMARY = re.compile(r"(?:bbox|segm|keypoints)\w*/(AP\w*|AR\w*)")
_CLASS = re.compile(r"((?:bbox|segm|keypoints)\w*)/AP-(.+)")
TASKS = {"bbox": "Box", "segm": "Mask", "keypoints": "Keypoint"}


def curve_blocks(runs: Sequence[RunFiles]) -> list[Block]:
    names = list(dict.fromkeys(name for run in runs for name in run.logged_names()))
    if not names:
        return [Note("Nothing was logged: there is no metrics.json, or it is empty.", "train for at least one period")]
    most = max(len(run.lines) for run in runs)
    thin = f" Each point is the mean of up to {-(-most // MOST_POINTS)} logged values." if most > MOST_POINTS else ""
    about = "Point at a chart, or reach it with Tab and use the arrow keys, to read values." + thin
    blocks: list[Block] = [Charts([*_scores(runs), *_losses(runs, names)], "Learning", about)]
    parts = [n for n in names if is_loss(n) and not n.endswith("total_loss") and "/" not in n]
    if len(runs) > 1 and parts:
        charts = [chart_of(runs, name, log="off") for name in parts[:MOST_OTHER_CHARTS]]
        blocks.append(Charts(charts, "Parts of the loss", small=True))
    per_class = _class_scores(runs)
    if per_class:
        blocks.append(Charts(per_class, "AP by class", "Choose classes in the legend."))
    rest = [n for n in names if not (is_loss(n) or "/AP" in n or "/AR" in n or n in NOT_CURVES | SPEED)]
    rest.sort(key=lambda name: (name != "lr", name != "gradient_norm", name))
    shown, hidden = rest[:MOST_OTHER_CHARTS], rest[MOST_OTHER_CHARTS:]
    if shown:
        more = f"{len(hidden)} more are in metrics.json: {', '.join(hidden)}." if hidden else ""
        blocks.append(
            Charts([chart_of(runs, name) for name in shown], "Everything else that was logged", more, small=True)
        )
    return blocks


def chart_of(runs: Sequence[RunFiles], name: str, title: str = "", y_label: str = "", log: str = "") -> Chart:
    """One logged value of all runs."""
    series = [
        Series(run.name if len(runs) > 1 else name, *run.values(name), colour=index)
        for index, run in enumerate(runs)
        if run.values(name)[0]
    ]
    return Chart(title or name, series, y_label=y_label, log=log)


def is_loss(name: str) -> bool:
    return "loss" in name.rsplit("/", 1)[-1].lower()


def _losses(runs: Sequence[RunFiles], names: Sequence[str]) -> list[Chart]:
    losses = [name for name in names if is_loss(name)]
    totals = [name for name in losses if name.endswith("total_loss")]
    parts = [name for name in losses if name not in totals]
    charts = []
    if totals:
        series = [
            Series(
                _series_name(runs, run, _loss_name(name)), *run.values(name), colour=index, dashed=name != "total_loss"
            )
            for index, run in enumerate(runs)
            for name in totals
            if run.values(name)[0]
        ]
        charts.append(Chart("Loss", series, log="off"))
    if parts and len(runs) == 1:
        main = [name for name in parts if "/" not in name][:MOST_LINES]
        charts.append(Chart("Parts of the loss", [Series(n, *runs[0].values(n)) for n in main], log="on"))
    return charts


def _loss_name(name: str) -> str:
    return {"total_loss": "training", "val_loss/total_loss": "validation"}.get(name, name)


def _scores(runs: Sequence[RunFiles]) -> list[Chart]:
    """AP, AP50, AP75 over the iterations, and one run's AP by size."""
    if len(runs) > 1:
        return [
            _score_chart(runs, f"{_task_title(task)} {figure}", [f"{task}/{figure}"])
            for figure in ("AP", "AP50")
            for task in _tasks(runs)
        ]
    charts = []
    for task in _tasks(runs):
        title = _task_title(task)
        charts.append(_score_chart(runs, f"{title} AP", [f"{task}/{figure}" for figure in ("AP", "AP50", "AP75")]))
        by_size = [f"{task}/AP{size}" for size in "sml"]
        charts.append(
            _score_chart(runs, f"{title} AP by size of item", by_size, {"s": "small", "m": "medium", "l": "large"})
        )
    return [chart for chart in charts if chart.series]


def _score_chart(
    runs: Sequence[RunFiles], title: str, metrics: Sequence[str], renamed: dict[str, str] | None = None
) -> Chart:
    series = []
    for index, run in enumerate(runs):
        for metric in metrics:
            points = [(i + 1, scores[metric]) for i, scores in run.scores.items() if scores.get(metric) is not None]
            if points:
                short = metric.rpartition("/")[2]
                short = (renamed or {}).get(short.removeprefix("AP"), short)
                colour = index if len(runs) > 1 else None
                series.append(Series(_series_name(runs, run, short), *zip(*points, strict=True), colour=colour))
    return Chart(title, series, y_label="%")


def _class_scores(runs: Sequence[RunFiles]) -> list[Chart]:
    """With several runs the classes' last values are in a table, which is easier to read."""
    if len(runs) > 1:
        return []
    charts = []
    for task in _tasks(runs):
        found: dict[str, list[tuple[int, float]]] = {}
        for iteration, scores in runs[0].scores.items():
            for name, value in scores.items():
                named = _CLASS.fullmatch(name)
                if named and named[1] == task and value is not None:
                    found.setdefault(named[2], []).append((iteration + 1, value))
        lines = list(found.items())[:MOST_LINES]
        series = [Series(name, *zip(*points, strict=True)) for name, points in lines]
        if series:
            charts.append(Chart(f"{_task_title(task)} AP", series, y_label="%"))
    return charts


def _tasks(runs: Sequence[RunFiles]) -> list[str]:
    """`segm`, `bbox` and their variants such as `bbox_EMA`, masks first."""
    names = {name for run in runs for scores in run.scores.values() for name in scores if _SUMMARY.fullmatch(name)}
    return sorted({name.partition("/")[0] for name in names}, key=lambda task: (not task.startswith("segm"), task))


def _task_title(task: str) -> str:
    base, _, suffix = task.partition("_")
    return TASKS[base] + (f" ({suffix})" if suffix else "")


def _series_name(runs: Sequence[RunFiles], run: RunFiles, name: str) -> str:
    if len(runs) == 1:
        return name
    return run.name if name in ("training", "AP", "AP50") else f"{run.name}: {name}"
