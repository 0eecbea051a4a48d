"""Charts of data sets side by side: one sheet, and each chart by itself."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xray_lazy.utils.atomic_file import atomic_writer
from xray_lazy.visualization.chart_text import chart_text
from xray_lazy.visualization.data_report.data_statistics import SetStatistics
from xray_lazy.visualization.image_choice import NAMED_SIZES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's colours, which can be told apart by everybody; scanners have one each.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c")
LINES = {"train": "-", "val": "--", "test": ":"}
STRENGTHS = {"train": 1.0, "val": 0.6, "test": 0.35}
INK, QUIET, GRID = "#22272e", "#6b7580", "#e3e7eb"
MOST_BARS = 4  # sets of which bars beside each other can still be read
DOTS_PER_INCH = 110
MAPS_PER_ROW = 6


def save_charts(sets: Sequence[SetStatistics], folder: str | os.PathLike) -> list[Path]:
    """Write `statistics.png`, the sheet of everything, and each chart as a PNG of its own.

    Args:
        sets: of one list of classes.
    """
    folder = Path(folder)
    tall = _classes_height(sets[0])
    charts: dict[str, tuple[Callable, tuple[float, float]]] = {
        "classes": (draw_classes, (8, tall)),
        "sizes_by_class": (draw_sizes_by_class, (8, tall)),
        "sizes": (draw_sizes, (7, 4)),
        "aspects": (draw_aspects, (7, 4)),
        "per_picture": (draw_per_image, (7, 4)),
    }
    with chart_text():
        figures = {"statistics": draw_statistics_sheet(sets)}
        for name, (draw, size) in charts.items():
            figures[name] = _figure(size)
            draw(figures[name].add_subplot(), sets)
        figures["positions"] = _figure((16, _maps_height(sets)))
        draw_positions(figures["positions"], sets)
        for name, figure in figures.items():
            with atomic_writer(folder / f"{name}.png") as stream:
                figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return [folder / f"{name}.png" for name in figures]


def draw_statistics_sheet(sets: Sequence[SetStatistics]) -> "Figure":
    """All charts on one page, with a table of the sets above them."""
    heights = [0.75 + 0.3 * len(sets), _classes_height(sets[0]), 4.0, _maps_height(sets)]
    figure = _figure((16, sum(heights)))
    table, classes, distributions, maps = figure.subfigures(4, 1, height_ratios=heights)
    draw_table(table.add_subplot(), sets)
    left, right = classes.subplots(1, 2)
    draw_classes(left, sets)
    draw_sizes_by_class(right, sets)
    for axes, draw in zip(distributions.subplots(1, 3), (draw_sizes, draw_aspects, draw_per_image), strict=True):
        draw(axes, sets)
    draw_positions(maps, sets)
    return figure


def draw_table(axes: "Axes", sets: Sequence[SetStatistics]) -> None:
    """One line of numbers for each set."""
    heads = ("set", "images", "without items", "items", "per image", "small", "medium", "large", "classes", "sizes")
    rows = [_table_row(one) for one in sets]
    axes.axis("off")
    widths = (0.21, 0.08, 0.1, 0.08, 0.09, 0.07, 0.07, 0.07, 0.08, 0.15)
    table = axes.table(rows, colLabels=heads, colWidths=widths, cellLoc="right", bbox=(0, 0, 1, 1), edges="horizontal")
    table.auto_set_font_size(False)
    for (row, column), cell in table.get_celld().items():
        cell.set(edgecolor=GRID)
        cell.get_text().set(fontsize=11, color=QUIET if row == 0 else INK)
        if column == 0:
            cell.get_text().set(ha="left", color=QUIET if row == 0 else _colour(sets, sets[row - 1]), weight="bold")


def draw_classes(axes: "Axes", sets: Sequence[SetStatistics]) -> None:
    """How often each class is there: bars for few sets, a table of shares for many."""
    names = sets[0].class_names
    order = np.argsort(-sum(one.class_counts for one in sets), kind="stable")
    if len(sets) > MOST_BARS:
        _draw_class_table(axes, sets, order)
        return
    alone = len(sets) == 1
    height = 0.8 / len(sets)
    for number, one in enumerate(sets):
        counts = one.class_counts[order]
        values = counts if alone else 100 * counts / max(1, one.instances)
        places = np.arange(len(names)) + (number - (len(sets) - 1) / 2) * height
        bars = axes.barh(places, values, height * 0.92, label=one.name, **_fill(sets, one))
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8, color=QUIET)
    axes.set_yticks(range(len(names)), [_short(names[index]) for index in order])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("items" if alone else "% of the set's items (the number: items)")
    _finish(axes, "Classes", legend=not alone, grid="x")


def draw_sizes_by_class(axes: "Axes", sets: Sequence[SetStatistics]) -> None:
    """The sizes of each class's items over all sets: median, middle half, and from the 5th to the 95th percentile."""
    names = sets[0].class_names
    order = np.argsort(-sum(one.class_counts for one in sets), kind="stable")
    classes, sides = (np.concatenate([getattr(one, key) for one in sets]) for key in ("classes", "sides"))
    for place, index in enumerate(order):
        own = sides[classes == index]
        if len(own):
            lowest, low, middle, high, highest = np.percentile(own, (5, 25, 50, 75, 95))
            axes.hlines(place, lowest, highest, color=COLOURS[0], linewidth=1.4)
            axes.barh(place, high - low, 0.55, low, color="#cfe1ee", edgecolor=COLOURS[0], linewidth=1.0)
            axes.vlines(middle, place - 0.275, place + 0.275, color=COLOURS[0], linewidth=2.6)
    axes.set_yticks(range(len(names)), [_short(names[index]) for index in order])
    axes.set_ylim(len(names) - 0.5, -0.5)
    _pixels(axes, sides)
    axes.set_xlabel("side of a square of the item's area, pixels")
    _finish(axes, "Sizes of each class", legend=False, grid="x")


def draw_sizes(axes: "Axes", sets: Sequence[SetStatistics]) -> None:
    """How large the items are; grounds mark COCO's small, medium and large."""
    sides = np.concatenate([one.sides for one in sets])
    smallest, largest = (max(1.0, sides.min()), max(1.0, sides.max())) if len(sides) else (8, 128)
    edges = np.geomspace(smallest / 1.05, largest * 1.05, _bins(sets))
    _draw_shares(axes, sets, [one.sides for one in sets], edges)
    _pixels(axes, sides)
    low, high = axes.get_xlim()
    for number, (name, (start, end)) in enumerate(NAMED_SIZES.items()):
        left, right = max(low, start), min(high, end)
        if left < right:
            axes.axvspan(left, right, color=INK, alpha=0.045 if number % 2 else 0.0, linewidth=0, zorder=0)
            # above the curves, on the title's line
            place, transform = np.sqrt(left * right), axes.get_xaxis_transform()
            axes.text(place, 1.02, name, transform=transform, ha="center", fontsize=8, color=QUIET)
    axes.set_xlabel("side of a square of the item's area, pixels")
    _finish(axes, "Sizes", legend=len(sets) > 1)


def draw_aspects(axes: "Axes", sets: Sequence[SetStatistics]) -> None:
    """How wide the items' boxes are for their height."""
    edges = np.geomspace(1 / 8, 8, _bins(sets))
    _draw_shares(axes, sets, [one.aspects.clip(edges[0], edges[-1] * 0.999) for one in sets], edges)
    axes.set_xscale("log", base=2)
    ticks = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    axes.set_xticks(ticks, ["1:8", "1:4", "1:2", "1:1", "2:1", "4:1", "8:1"])
    axes.set_xlabel("width : height of the box")
    _finish(axes, "Shapes", legend=False)


def draw_per_image(axes: "Axes", sets: Sequence[SetStatistics]) -> None:
    """How many items an image has."""
    most = max(int(one.per_image.max(initial=0)) for one in sets)
    most = min(most, 20)
    width = 0.8 / len(sets)
    for number, one in enumerate(sets):
        shares = np.bincount(one.per_image.clip(max=most), minlength=most + 1) / max(1, one.images)
        places = np.arange(most + 1) + (number - (len(sets) - 1) / 2) * width
        axes.bar(places, 100 * shares, width * 0.92, label=one.name, **_fill(sets, one))
    longer = any(one.per_image.max(initial=0) > most for one in sets)
    axes.set_xticks(range(most + 1), [*map(str, range(most)), f"{most}+" if longer else str(most)])
    axes.set_xlabel("items in an image")
    axes.set_ylabel("% of the images")
    _finish(axes, "Items per image", legend=False)


def draw_positions(figure: "Figure | SubFigure", sets: Sequence[SetStatistics]) -> None:
    """Where in their images items lie: a map for each set, or of one set also for its most frequent classes."""
    maps = [(one.name.removeprefix("xray_"), one.positions) for one in sets]
    if len(sets) == 1:
        frequent = np.argsort(-sets[0].class_counts, kind="stable")[: MAPS_PER_ROW - 1]
        maps += [(sets[0].class_names[index], sets[0].class_positions(index)) for index in frequent]
    columns = min(MAPS_PER_ROW, max(3, len(maps)))
    axes = figure.subplots(math.ceil(len(maps) / columns), columns, squeeze=False)
    brightest = max(float(shares.max()) for _, shares in maps) or 1.0
    for axis in axes.flat[len(maps) :]:
        axis.axis("off")
    for number, (axis, (title, shares)) in enumerate(zip(axes.flat, maps, strict=False)):
        width, height = next(iter(sets[min(number, len(sets) - 1)].image_sizes))
        drawn = axis.imshow(shares, cmap="magma", vmin=0, vmax=brightest, extent=(0, width, height, 0))
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(_short(title), fontsize=10, color=INK)
    last = axes.flat[len(maps) - 1]
    bar = figure.colorbar(drawn, ax=last, fraction=0.04, pad=0.02, format=lambda share, _: f"{100 * share:.0f}%")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=QUIET)
    figure.suptitle("Positions: the share of the items whose box is there", x=0.012, ha="left", fontsize=12, color=INK)


def _draw_class_table(axes: "Axes", sets: Sequence[SetStatistics], order: np.ndarray) -> None:
    shares = np.array([one.class_counts[order] / max(1, one.instances) for one in sets]).T
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(shares.max(), 1e-6) * 1.25, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        ink = "white" if share > 0.65 * shares.max() else (INK if share else "#b00020")
        axes.text(
            column, row, f"{sets[column].class_counts[order[row]]:,}", ha="center", va="center", color=ink, fontsize=8
        )
    axes.set_xticks(range(len(sets)), [one.name.removeprefix("xray_") for one in sets], rotation=30, ha="right")
    axes.set_yticks(range(len(order)), [_short(sets[0].class_names[index]) for index in order])
    _finish(axes, "Classes: items, coloured by the share of the set", legend=False, grid=None)


def _draw_shares(axes: "Axes", sets: Sequence[SetStatistics], values: Sequence[np.ndarray], edges: np.ndarray) -> None:
    for one, own in zip(sets, values, strict=True):
        shares = 100 * np.histogram(own, edges)[0] / max(1, len(own))
        colour = _colour(sets, one)
        if len(sets) == 1:
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(shares, edges, color=colour, linewidth=1.8, linestyle=_line(sets, one), label=one.name)
    axes.margins(y=0.12)
    axes.set_ylabel("% of the items")


def _table_row(one: SetStatistics) -> list[str]:
    (width, height), count = next(iter(one.image_sizes.items()))
    sizes = f"{width}x{height}" + (f" and {len(one.image_sizes) - 1} more" if count < one.images else "")
    seen = int((one.class_counts > 0).sum())
    return [
        one.name,
        f"{one.images:,}",
        f"{int((one.per_image == 0).sum()):,}",
        f"{one.instances:,}",
        f"{one.per_image.mean():.2f}",
        *(f"{100 * share:.0f}%" for share in one.size_shares.values()),
        f"{seen} of {len(one.class_names)}",
        sizes,
    ]


def _finish(axes: "Axes", title: str, legend: bool, grid: str | None = "y") -> None:
    axes.set_title(title, loc="left", fontsize=12, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=QUIET, labelsize=9, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=QUIET, fontsize=9)
    for label in axes.get_yticklabels():
        label.set_color(INK)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    if legend:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _bins(sets: Sequence[SetStatistics]) -> int:
    """Edges of a histogram in which the smallest set has no gaps."""
    return min(33, max(9, round(2 * min(one.instances for one in sets) ** 0.5)))


def _pixels(axes: "Axes", sides: np.ndarray) -> None:
    """A logarithmic axis with ticks at round sizes."""
    axes.set_xscale("log")
    low, high = (sides.min(), sides.max()) if len(sides) else (1, 100)
    named = [2**power for power in range(12) if low / 1.5 <= 2**power <= high * 1.5] or [int(low)]
    axes.set_xticks(named, map(str, named))
    axes.minorticks_off()


def _colour(sets: Sequence[SetStatistics], one: SetStatistics) -> str:
    scanners = list(dict.fromkeys(other.scanner for other in sets))
    place = scanners.index(one.scanner) if len(scanners) > 1 else [other.name for other in sets].index(one.name)
    return COLOURS[place % len(COLOURS)]


def _line(sets: Sequence[SetStatistics], one: SetStatistics) -> str:
    return LINES.get(one.split, "-") if len({other.scanner for other in sets}) > 1 else "-"


def _fill(sets: Sequence[SetStatistics], one: SetStatistics) -> dict:
    several = len({other.scanner for other in sets}) > 1
    return {"color": _colour(sets, one), "alpha": STRENGTHS.get(one.split, 1.0) if several else 1.0}


def _figure(size: tuple[float, float]) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # draws without a screen, and without pyplot's global state
    return figure


def _classes_height(one: SetStatistics) -> float:
    return 1.6 + 0.32 * max(5, len(one.class_names))


def _maps_height(sets: Sequence[SetStatistics]) -> float:
    maps = len(sets) if len(sets) > 1 else min(MAPS_PER_ROW, 1 + len(sets[0].class_names))
    return 3.8 if maps <= 3 else 0.6 + 2.1 * math.ceil(maps / MAPS_PER_ROW)


def _short(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"
