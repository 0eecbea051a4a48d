"""Plots of an analysis and of a comparison, as PNG files."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xray_lazy.analysis.results import ClassResult, Comparison, Difference, Group, TaskResult
from xray_lazy.utils.atomic_file import atomic_writer
from xray_lazy.utils.wording import counted, printable
from xray_lazy.visualization.chart_text import chart_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's "bright" and "muted" schemes, which can be told apart with any colour vision
COLOURS = (
    *("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377"),
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#882255"),
)
BAR, BACKDROP, GOOD, BAD = "#4477AA", "#BBBBBB", "#228833", "#CC3311"
MOST_CLASSES = 24  # more lines than this can't be followed
DOTS_PER_INCH = 130


def plot_task(task: str, result: TaskResult, folder: Path) -> None:
    """`<task>_errors.png`, `_precision_recall`, `_f1`, `_calibration`, `_groups` and `_confusion`."""
    plots = {
        "errors": (plot_errors, (8, 4)),
        "precision_recall": (plot_precision_recall, (8, 5.5)),
        "f1": (plot_f1, (8, 5.5)),
        "calibration": (plot_calibration, (6, 6)),
        "groups": (plot_groups, (8, 1.6 + 0.42 * (_group_count(result) + 3))),
    }
    for name, (plot, size) in plots.items():
        _draw(folder / f"{task}_{name}.png", size, lambda figure, plot=plot: plot(figure, result))
    from xray_lazy.visualization.confusion_chart import draw_confusion_matrix
    from xray_lazy.visualization.prediction_images import write_image

    matrix = draw_confusion_matrix(np.array(result.confusion.counts), result.confusion.names)
    write_image(folder / f"{task}_confusion.png", matrix[..., ::-1])


def plot_errors(figure: "Figure", result: TaskResult) -> None:
    """How much AP50 each kind of error costs."""
    axes = figure.add_subplot()
    errors = result.errors
    bars = [
        (f"{kind.name}: {kind.meaning}", kind.lost_ap, f"{kind.count_shown} of {kind.count}", BAR)
        for kind in errors.kinds
    ]
    bars[-1] = (*bars[-1][:2], f"{errors.kinds[-1].count} items", BAR)
    bars += [
        ("all false detections", errors.lost_to_false, "", BACKDROP),
        ("all missed items", errors.lost_to_missed, "", BACKDROP),
    ]
    for place, (_, value, text, colour) in enumerate(bars):
        value = 0 if math.isnan(value) else value
        axes.barh(place, value, color=colour)
        axes.annotate(
            f"{value:.1f}" + (f"   ({text})" if text else ""),
            (value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    threshold = shown_threshold(result.score_threshold)
    axes.set_xlabel(f"percent points of AP50 (in brackets: how many at a score of {threshold}, and at any)", fontsize=9)
    axes.set_title(f"Errors: what keeps AP50 at {_number(errors.ap50)}")


def plot_precision_recall(figure: "Figure", result: TaskResult) -> None:
    """Precision by recall at IoU 0.5; a dot where the class's F1 is highest."""
    axes = figure.add_subplot()
    recalls = np.linspace(0, 1, 101)
    for colour, style, one in _lines(result):
        if one.interpolated_precision:
            label = f"{printable(one.name)}  {one.ap50:.1f}"
            axes.plot(recalls, one.interpolated_precision, style, color=colour, label=label)
            if one.curve.scores:
                best = one.curve.best
                axes.plot(one.curve.recall[best], one.curve.precision[best], "o", color=colour, markersize=5)
    present = [one.interpolated_precision for one in result.classes if one.interpolated_precision]
    if present:
        mean = result.summary["AP50"]
        axes.plot(recalls, np.mean(present, axis=0), color="black", linewidth=2.5, label=f"mean  {mean:.1f}")
    _finish_curves(axes, "recall", "precision", "Precision and recall at IoU 0.5", "AP50")


def plot_f1(figure: "Figure", result: TaskResult) -> None:
    """F1 by score threshold; a dot at each class's best."""
    axes = figure.add_subplot()
    for colour, style, one in _lines(result):
        if one.curve.scores:
            curve = one.curve
            label = f"{printable(one.name)}  {curve.best_f1:.2f} at {shown_threshold(curve.best_threshold)}"
            axes.step(curve.scores, curve.f1, style, where="post", color=colour, label=label)
            axes.plot(curve.best_threshold, curve.best_f1, "o", color=colour, markersize=5)
    if result.curve.scores:
        label = f"all  {result.curve.best_f1:.2f} at {shown_threshold(result.curve.best_threshold)}"
        axes.step(result.curve.scores, result.curve.f1, where="post", color="black", linewidth=2.5, label=label)
    _finish_curves(axes, "score threshold", "F1", "F1 at IoU 0.5 by score threshold", "best F1")


def plot_calibration(figure: "Figure", result: TaskResult) -> None:
    """Share of right detections by score, and how many there are."""
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = result.calibration.bins
    centres = [(one.lower + one.upper) / 2 for one in bins]
    width = 0.9 * (bins[0].upper - bins[0].lower) if bins else 0.1
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="as sure as right")
    axes.bar(centres, [one.share_right for one in bins], width, color=BAR, label="share that is right at IoU 0.5")
    axes.plot(
        [one.mean_score for one in bins],
        [one.mean_score for one in bins],
        "_",
        color=BAD,
        markersize=14,
        markeredgewidth=2,
        label="mean score",
    )
    counts.bar(centres, [one.count for one in bins], width, color=BACKDROP)
    counts.set(xlabel="score", ylabel="detections", xlim=(0, 1))
    if bins:
        counts.set_yscale("symlog", linthresh=10)
        counts.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, 1)
    axes.set_title(f"Calibration: mean error {_number(result.calibration.ece, 3)} (ECE)")
    axes.legend(loc="upper left", frameon=False)


def plot_groups(figure: "Figure", result: TaskResult) -> None:
    """AP and the share that is found by size, scanner and occlusion."""
    parts = [("size", result.by_size), ("scanner", result.by_scanner), ("occlusion", result.by_occlusion)]
    parts = [(title, groups) for title, groups in parts if groups and not (title == "scanner" and len(groups) == 1)]
    if not parts:
        figure.text(0.5, 0.5, "no items", ha="center")
        return
    all_axes = figure.subplots(len(parts), 1, sharex=True, squeeze=False, height_ratios=[len(g) + 1 for _, g in parts])
    for axes, (title, groups) in zip(all_axes[:, 0], parts, strict=True):
        _plot_group(axes, title, groups)
    all_axes[0, 0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=2, frameon=False)
    all_axes[-1, 0].set_xlabel(f"percent; found: at a score of {shown_threshold(result.score_threshold)} and IoU 0.5")


def _plot_group(axes: "Axes", title: str, groups: Sequence[Group]) -> None:
    places = np.arange(len(groups))
    found = [100 * group.found for group in groups]
    axes.barh(places - 0.2, [group.ap for group in groups], 0.38, color=BAR, label="AP")
    axes.barh(places + 0.2, found, 0.38, color=BACKDROP, label="found")
    for place, group in zip(places, groups, strict=True):
        for shift, value in ((-0.2, group.ap), (0.2, 100 * group.found)):
            if not math.isnan(value):
                text = f"{value:.0f}"
                axes.annotate(text, (value, place + shift), (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(
        places, [f"{printable(group.name)}\n{counted(group.instances, 'item')}" for group in groups], fontsize=8
    )
    axes.set_xlim(0, 108)
    axes.invert_yaxis()
    axes.set_ylabel(title)


def plot_comparison(task: str, comparison: Comparison, differences: Sequence[Difference], path: Path) -> None:
    """Each metric's change with its interval."""

    def plot(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color="black", linewidth=0.8)
        for place, one in enumerate(differences):
            colour = {"better": GOOD, "worse": BAD}.get(one.verdict, "grey")
            axes.plot([one.lower, one.upper], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot(one.change, place, "o", color=colour, markersize=7)
        axes.set_yticks(range(len(differences)), [one.name for one in differences])
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel(f"change in percent points, {comparison.confidence:.0%} interval")
        images = counted(comparison.images, "image")
        title = f"{task}: second against first, {images} of {printable(comparison.dataset)}"
        axes.set_title(title, fontsize=10)
        runs = f"first   {_ending(comparison.first)}\nsecond  {_ending(comparison.second)}"
        figure.supxlabel(runs, x=0.02, ha="left", fontsize=7, family="monospace")

    _draw(path, (8, 2 + 0.32 * len(differences)), plot)


def shown_threshold(value: float) -> str:
    """A threshold with three digits, rounded down, so that it keeps what it is the threshold of."""
    return "-" if math.isnan(value) else f"{math.floor(1000 * value) / 1000:.3f}"


def _lines(result: TaskResult) -> list[tuple[str, str, ClassResult]]:
    """Colour, dashes and class, of the classes with most instances where there are too many."""
    kept = sorted(range(len(result.classes)), key=lambda place: -result.classes[place].instances)[:MOST_CLASSES]
    styles = ("-", "--")
    return [
        (COLOURS[place % len(COLOURS)], styles[place // len(COLOURS) % 2], result.classes[place])
        for place in sorted(kept)
    ]


def _finish_curves(axes: "Axes", across: str, up: str, title: str, legend: str) -> None:
    axes.set(xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.03), title=title)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(title=legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)


def _draw(path: Path, size: tuple[float, float], plot: Callable[["Figure"], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with chart_text():
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        with atomic_writer(path) as stream:
            figure.savefig(stream, format="png")


def _ending(text: str, most: int = 90) -> str:
    text = printable(text)
    return text if len(text) <= most else "…" + text[1 - most :]


def _group_count(result: TaskResult) -> int:
    return len(result.by_size) + len(result.by_scanner) + len(result.by_occlusion)


def _number(value: float, digits: int = 1) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
