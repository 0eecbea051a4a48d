"""A screening as tables on the terminal, and as files: JSON, CSV, a plot."""

import math
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from xray_lazy.analysis.analysis_console import VERDICT_COLOURS, table_of, wide_console
from xray_lazy.analysis.files import table_text
from xray_lazy.analysis.screening.screening import ScreeningResult
from xray_lazy.analysis.screening.screening_text import (
    print_at_point,
    shown_interval,
    shown_percent,
    shown_rate,
    shown_threshold,
    too_few_clean,
)
from xray_lazy.utils.atomic_file import atomic_writer, write_json, write_text
from xray_lazy.utils.wording import counted

JSON_NAME, TABLE_NAME, PLOT_NAME = "screening.json", "screening.csv", "screening.png"
MISSED_NAME = "missed_items.csv"


def print_screening(result: ScreeningResult, folder: str | Path) -> None:
    """P_D at each P_FA, of all threats and of each class; warnings where there are too few clean bags."""
    console = wide_console()
    overall = result.overall
    console.print(
        f"[bold]{escape(result.origin)}[/] on {escape(result.dataset)}: {counted(result.bags, 'bag')} of "
        f"{counted(result.images, 'image')}, {overall.threats} with a threat, {overall.clean} clean\n"
        f"a detection counts by its {result.rule}; intervals at {result.confidence:.0%}",
        soft_wrap=True,
    )
    if overall.clean and overall.threats:
        table = table_of("P_FA at most, %", "threshold", "P_FA", "interval", "P_D", "interval", "any class", "alarms")
        for point, any_class in zip(overall.points, result.any_class.points, strict=True):
            table.add_row(
                shown_percent(point.asked),
                shown_threshold(point.threshold),
                shown_percent(point.false_alarms),
                shown_interval(point.false_alarms_low, point.false_alarms_high),
                f"[bold]{shown_percent(point.detection)}[/]",
                shown_interval(point.detection_low, point.detection_high),
                shown_percent(any_class.detection),
                shown_percent(point.alarms),
            )
        console.print(table)
        for rate, value in overall.false_alarms_at.items():
            bounds = shown_interval(*overall.false_alarms_at_bounds[rate])
            what = "no threshold reaches it" if math.isnan(value) else f"P_FA {shown_percent(value)} % ({bounds})"
            console.print(f"P_D {shown_percent(rate)} %: {what}")
        area = _with_interval(overall.area, overall.area_low, overall.area_high)
        console.print(f"area below P_D over P_FA: {area} %")
    console.print(_classes(result))
    marks = ", ".join(f"{shown_percent(found)} at {marks:g}" for marks, found in result.froc.items())
    console.print(f"items found (IoU 0.5) by false marks per image: {marks}", soft_wrap=True)
    if result.missed:
        console.print(_missed(result))
    if result.at_point:
        print_at_point(console, result.at_point)
    for warning in warnings_of(result):
        console.print(f"[yellow]note:[/] {escape(warning)}", soft_wrap=True)
    if result.other:
        table = table_of("P_FA at most, %", "change of P_D", "interval", "the other is")
        for one in result.changes:
            colour = VERDICT_COLOURS.get(one.verdict, "dim")
            bounds = "-" if math.isnan(one.low) else f"{100 * one.low:+.1f} to {100 * one.high:+.1f}"
            change = "-" if math.isnan(one.change) else f"{100 * one.change:+.1f}"
            table.add_row(shown_percent(one.asked), change, bounds, f"[{colour}]{one.verdict}[/]")
        console.print(f"\n[bold]{escape(result.other)}[/] on the same bags:", soft_wrap=True)
        console.print(table)
    console.print(f"results are in {escape(str(folder))}", soft_wrap=True)


def warnings_of(result: ScreeningResult) -> list[str]:
    """What is not to be taken at its word, and what the set can't show."""
    return [*result.notes, *_gaps(result)]


def _gaps(result: ScreeningResult) -> list[str]:
    overall = result.overall
    if result.group_by and result.bags == 1:
        return [f"--group-by {result.group_by} joins all images into one bag: does its first group tell bags apart?"]
    if not overall.threats:
        return ["no bag has a threat: there is no P_D"]
    if not overall.clean:
        return [
            "every bag has a threat: there are no false alarms to count over all classes; add clean bags to the set. "
            "For a class those without it are clean"
        ]
    return too_few_clean(overall.clean, [point.asked for point in overall.points], result.confidence)


def write_screening(result: ScreeningResult, folder: str | Path) -> Path:
    """Write screening.json, screening.csv (a line per class and P_FA), missed_items.csv and screening.png; gives the
    folder."""
    folder = Path(folder)
    rows = [
        {"class": one.name, "threats": one.threats, "clean": one.clean, **asdict(point)}
        for one in (result.overall, result.any_class, *result.classes)
        for point in one.points
    ]
    for row in rows:  # in full: a rounded one may lie above the scores that it is to let through
        row["threshold"] = repr(row["threshold"]) if math.isfinite(row["threshold"]) else ""
    write_text(folder / TABLE_NAME, table_text(rows))
    write_text(folder / MISSED_NAME, table_text(_missed_rows(result)))
    _draw(result, folder / PLOT_NAME)
    write_json(folder / JSON_NAME, result.as_json(), indent=1)
    return folder


def _classes(result: ScreeningResult):
    rates = [shown_percent(point.asked) for point in result.overall.points]
    table = table_of("class, %", "with it", "without", *(f"P_D at {rate}" for rate in rates), "area", "AP of bags")
    for one in result.classes:
        points = [_with_interval(point.detection, point.detection_low, point.detection_high) for point in one.points]
        table.add_row(
            escape(one.name),
            str(one.threats),
            str(one.clean),
            *points,
            shown_percent(one.area),
            shown_percent(one.ap),
        )
    columns = ["-"] * (2 + len(rates)) + ["-", shown_percent(result.class_ap)]
    table.add_row("mean", *columns)
    return table


def _missed(result: ScreeningResult):
    """Shares of items that are missed, with the interval at the rate that is shown last."""
    table = table_of("missed items, %, by", "", "items", *_missed_columns(result))
    last = ""
    for one in result.missed:
        rates = [shown_percent(rate.value) for rate in one.missed[:-1]]
        name = escape(one.by) if one.by != last else ""
        table.add_row(name, escape(one.name), str(one.items), *rates, shown_rate(one.missed[-1]))
        last = one.by
    return table


def _missed_columns(result: ScreeningResult) -> list[str]:
    """What each of `MissedItems.missed` is at."""
    points = [one for one in result.overall.points if not math.isnan(one.threshold)]
    columns = [f"at P_FA {shown_percent(one.asked)}" for one in points]
    return [*columns, "at the operating point"] if result.at_point else columns


def _missed_rows(result: ScreeningResult) -> list[dict]:
    return [
        {"by": one.by, "group": one.name, "items": one.items, "at": at, **asdict(rate)}
        for one in result.missed
        for at, rate in zip(_missed_columns(result), one.missed, strict=True)
    ]


def _draw(result: ScreeningResult, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    curve, items = figure.subplots(1, 2)
    _draw_roc(curve, result)
    marks = [one for one in result.froc if not math.isnan(result.froc[one])]
    items.plot(marks, [100 * result.froc[one] for one in marks], "o-", color="#4477AA")
    items.set_xscale("log", base=2)
    if marks:
        items.set_xticks(marks, [f"{one:g}" for one in marks])
    items.set(xlabel="false marks per image", ylabel="items found, %", ylim=(0, 102), title="Items (FROC)")
    for axes in (curve, items):
        axes.grid(alpha=0.3)
    with atomic_writer(path) as stream:
        figure.savefig(stream, format="png", dpi=130)


def _draw_roc(axes, result: ScreeningResult) -> None:
    axes.set(xlabel="false alarms, % of clean bags", ylabel="detected, % of bags with a threat", ylim=(0, 102))
    axes.set_title("Bags (P_D over P_FA)")
    if not result.roc:
        axes.text(0.5, 0.5, "bags of one kind only", transform=axes.transAxes, ha="center")
        return
    rates, values, _ = (list(column) for column in zip(*result.roc, strict=True))
    axes.step([100 * x for x in rates], [100 * y for y in values], where="post", color="#4477AA")
    for point in result.overall.points:
        low, high = (100 * abs(point.detection - bound) for bound in (point.detection_low, point.detection_high))
        place = (100 * point.false_alarms, 100 * point.detection)
        axes.errorbar(*place, yerr=[[low], [high]], fmt="o", color="#EE6677", capsize=3)
    axes.set_xlim(-1, max(20.0, 200 * result.overall.points[-1].asked))


def _with_interval(value: float, low: float, high: float) -> str:
    return "-" if math.isnan(value) else f"{shown_percent(value)} ({shown_interval(low, high)})"
