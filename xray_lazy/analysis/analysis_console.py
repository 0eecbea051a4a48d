"""Analyses, comparisons and the cost of models as tables on the terminal."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich import markup
from rich.console import Console
from rich.table import Table

from xray_lazy.analysis.analysis_plots import shown_threshold
from xray_lazy.analysis.findings import findings, most_confused, most_frequent_error
from xray_lazy.analysis.results import TOO_FEW, Analysis, Comparison, Difference, TaskResult
from xray_lazy.utils.terminal import table_console
from xray_lazy.utils.wording import counted, printable

if TYPE_CHECKING:
    from xray_lazy.analysis.model_cost import ModelCost, PartCost

SHOWN_IMAGES = 5
LEAST_SHARE = 0.03  # of parameters, FLOPs or time, that a part of a part has to have
VERDICT_COLOURS = {"better": "green", "worse": "red"}
_WIDTH_OF_FILES = 140  # of a line where the output is no terminal


def print_analysis(analysis: Analysis, folder: str | Path) -> None:
    """What was found, and where the rest of it is; tables are of masks where there are some, else of boxes."""
    console = wide_console()
    console.print(
        f"[bold]{escape(analysis.evaluation)}[/] on {escape(analysis.dataset)}: "
        f"{counted(analysis.images, 'image')}, {counted(analysis.instances, 'item')}, "
        f"{counted(analysis.detections, 'detection')}",
        soft_wrap=True,
    )
    console.print(_summary(analysis))
    result = analysis.main
    console.print(_errors(result))
    console.print(_classes(result))
    console.print(_groups(result))
    _print_images(console, result)
    sentences = findings(analysis)
    if sentences:
        console.print("\n[bold]Where to look[/]")
        for sentence in sentences:
            console.print(f"  - {escape(sentence)}", soft_wrap=True)
    console.print(f"\nresults are in {escape(str(folder))}", soft_wrap=True)


def print_comparison(comparison: Comparison, folder: str | Path) -> None:
    """Each metric of both runs with the bounds of its change, and the verdict in words."""
    console = wide_console()
    bags = f" of {counted(comparison.bags, 'bag')}" if comparison.bags < comparison.images else ""
    console.print(
        f"first:  [bold]{escape(comparison.first)}[/]\nsecond: [bold]{escape(comparison.second)}[/]\n"
        f"on {escape(comparison.dataset)}, {counted(comparison.images, 'image')}{bags}, "
        f"{counted(comparison.resamples, 'resample')}",
        soft_wrap=True,
    )
    for task, differences in comparison.tasks.items():
        interval = f"{comparison.confidence:.0%} interval"
        table = table_of(task, "first", "second", "change", interval, "second is")
        for one in differences:
            bounds = "-" if math.isnan(one.lower) else f"{one.lower:+.1f} to {one.upper:+.1f}"
            colour = VERDICT_COLOURS.get(one.verdict, "dim")
            values = (_number(one.first), _number(one.second), _number(one.change, sign=True), bounds)
            table.add_row(escape(one.name), *values, f"[{colour}]{one.verdict}[/]")
        console.print(table)
    for task, differences in comparison.tasks.items():
        console.print(f"[bold]{task}[/]: {verdict(differences[0])}", soft_wrap=True)
    console.print(f"results are in {escape(str(folder))}", soft_wrap=True)


def print_model_cost(cost: "ModelCost") -> None:
    """The parts of a model, but for small ones inside of others, and all of it."""
    console = wide_console()
    proposals = "" if cost.proposals is None else f"{counted(cost.proposals, 'proposal')}, "
    console.print(
        f"[bold]{escape(cost.model)}[/] on one image of {cost.width}x{cost.height}, {proposals}"
        f"{counted(cost.detections, 'detection')}; {cost.device}, {counted(cost.threads, 'thread')}, "
        f"fastest of {counted(cost.repeats, 'pass', 'passes')}",
        soft_wrap=True,
    )
    table = table_of("part", "parameters", "trainable", "GFLOPs", "activations", "ms", "share")
    for part in (*cost.parts, cost.total):
        if "." in part.name and not _worth_a_line(part, cost.total):
            continue
        name = "  " * part.name.count(".") + part.name.rpartition(".")[2]
        table.add_row(
            escape(name),
            *(f"{number / 1e6:.2f} M" for number in (part.parameters, part.trainable)),
            f"{part.flops / 1e9:.2f}",
            f"{part.activations / 1e6:.2f} M",
            f"{1e3 * part.seconds:.1f}",
            f"{part.seconds / cost.total.seconds:.0%}",
            style="bold" if part is cost.total else None,
        )
    console.print(table)
    console.print("1 GFLOP: 10^9 multiplications or additions of convolutions and matrix products", style="dim")


def _worth_a_line(part: "PartCost", total: "PartCost") -> bool:
    shares = (
        part.parameters / max(total.parameters, 1),
        part.flops / max(total.flops, 1),
        part.seconds / total.seconds,
    )
    return max(shares) >= LEAST_SHARE


def verdict(difference: Difference) -> str:
    """What the interval of a metric says, in words."""
    if math.isnan(difference.change):
        return f"{difference.name} could not be measured in both runs"
    change = f"{difference.name} {difference.first:.1f} -> {difference.second:.1f}"
    bounds = f"between {difference.lower:+.1f} and {difference.upper:+.1f}"
    if difference.verdict in VERDICT_COLOURS:
        return f"the second run is {difference.verdict} ({change}; {bounds})"
    if difference.verdict == TOO_FEW:
        return f"items in so few images say nothing of other images ({change}; {bounds})"
    return f"so few images show no difference ({change}; {bounds})"


def _summary(analysis: Analysis) -> Table:
    names = list(next(iter(analysis.tasks.values())).summary)
    table = table_of("", *names, "best F1", "at score", "ECE")
    for task, result in analysis.tasks.items():
        curve = result.curve
        best = (_number(curve.best_f1, 2), shown_threshold(curve.best_threshold), _number(result.calibration.ece, 2))
        table.add_row(task, *(_number(result.summary.get(name, math.nan)) for name in names), *best)
    return table


def _errors(result: TaskResult) -> Table:
    table = table_of("error", "costs AP50", f"at score {shown_threshold(result.score_threshold)}", "at any score", "")
    for kind in result.errors.kinds:
        table.add_row(kind.name, _number(kind.lost_ap), str(kind.count_shown), str(kind.count), kind.meaning)
    table.columns[-1].justify = "left"
    return table


def _classes(result: TaskResult) -> Table:
    headers = ("items", "AP", "AP50", "best score", "F1", "precision", "recall", "most errors", "taken for")
    table = table_of("class", *headers)
    for place, one in enumerate(result.classes):
        curve = one.curve
        at_best = (curve.f1, curve.precision, curve.recall)
        figures = [_number(values[curve.best], 2) if curve.scores else "-" for values in at_best]
        other = most_confused(result, place)
        table.add_row(
            escape(one.name),
            str(one.instances),
            _number(one.ap),
            _number(one.ap50),
            shown_threshold(curve.best_threshold),
            *figures,
            most_frequent_error(one),
            escape(f"{other[0]} {other[1]}") if other else "-",
        )
    return table


def _groups(result: TaskResult) -> Table:
    table = table_of("items", "number", "images", "AP", "AP50", "AR", "found")
    parts = (("size", result.by_size), ("scanner", result.by_scanner), ("overlapped", result.by_occlusion))
    for title, groups in parts:
        for group in groups:
            found = "-" if math.isnan(group.found) else f"{group.found:.0%}"
            counts = (str(group.instances), str(group.images))
            figures = (_number(group.ap), _number(group.ap50), _number(group.ar))
            table.add_row(escape(f"{title}: {group.name}"), *counts, *figures, found)
    return table


def _print_images(console: Console, result: TaskResult) -> None:
    if result.worst_pictures:
        table = table_of("worst images", "found", "missed", "false", "drawn")
        for one in result.worst_pictures[:SHOWN_IMAGES]:
            counts = (str(one.found), str(one.missed), str(one.false))
            table.add_row(escape(Path(one.file_name).name), *counts, escape(one.drawn or "-"))
        console.print(table)
    if result.label_suspects:
        table = table_of("suspected labels", "score", "detected", "annotated", "id", "IoU", "drawn")
        for one in result.label_suspects[:SHOWN_IMAGES]:
            annotated = ("nothing", "-") if one.annotation_id is None else (one.annotated_class, str(one.annotation_id))
            table.add_row(
                escape(Path(one.file_name).name),
                f"{one.score:.2f}",
                escape(one.detected_class),
                *map(escape, annotated),
                f"{one.iou:.2f}",
                escape(one.drawn or "-"),
            )
        console.print(table)


def table_of(first: str, *others: str) -> Table:
    """A table without lines, numbers at the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), title="")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _number(value: float, digits: int = 1, sign: bool = False) -> str:
    return "-" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def wide_console() -> Console:
    """The terminal, or a file with lines of a fixed width."""
    return table_console(_WIDTH_OF_FILES)


def escape(text: str) -> str:
    """A name for a cell: in one line, and no markup."""
    return markup.escape(printable(text))
