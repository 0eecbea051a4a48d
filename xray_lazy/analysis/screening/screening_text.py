"""Thresholds, shares and operating points of a screening, on the terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xray_lazy.analysis.analysis_console import table_of, wide_console
from xray_lazy.analysis.screening.operating_point import AtPoint
from xray_lazy.evaluation.screening.figures import FALSE_ALARM_RATES, LEAST_THREATS, clean_bags_for, least_false_alarms
from xray_lazy.evaluation.screening.threshold_choice import Judgement, Rate
from xray_lazy.utils.wording import counted

if TYPE_CHECKING:
    from xray_lazy.analysis.screening.fused_views import FittedViews
    from xray_lazy.analysis.screening.operating_point_choice import Choice


def print_at_point(console: Console, at: AtPoint) -> None:
    """What an operating point gives on a set, and why that may not be what it seems."""
    console.print(
        f"\n[bold]{escape(at.path)}[/], chosen on {escape(at.chosen_on)} for a P_FA of at most "
        f"{shown_percent(at.false_alarms)} %, gives here:",
        soft_wrap=True,
    )
    console.print(_judgements({"here": at.judgement}))
    console.print(_thresholds(at.thresholds, at.judgement))
    for note in at.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


def print_choice(choice: "Choice", path: Path) -> None:
    """The thresholds, and what they give: where they were chosen, and what to expect elsewhere."""
    console, on = wide_console(), choice.chosen_on
    console.print(
        f"[bold]{escape(on['origin'])}[/] on {escape(on['dataset'])}: {counted(on['bags'], 'bag')} of "
        f"{counted(on['images'], 'image')}, {on['threats']} with a threat, {on['clean']} clean\n"
        f"at most {shown_percent(choice.false_alarms)} % of the clean bags may alarm; a detection counts by its "
        f"{on['rule']}; intervals at {choice.confidence:.0%}",
        soft_wrap=True,
    )
    console.print(_thresholds(choice.thresholds, choice.judgement))
    rows = {"on these bags": choice.judgement}
    if choice.across:
        rows["on bags that it is not chosen on"] = choice.across
    rows[f"one threshold, {shown_threshold(choice.common)}, on these bags"] = choice.common_judgement
    console.print(_judgements(rows))
    for note in notes_of(choice):
        console.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    console.print(f"the operating point is in {escape(str(path))}", soft_wrap=True)


def print_views(fitted: "FittedViews", path: Path) -> None:
    """The weights, and what they give beside the best score of any view."""
    console, fusion, on = wide_console(), fitted.fusion, fitted.fitted_on
    console.print(
        f"[bold]{escape(on['origin'])}[/] on {escape(on['dataset'])}: {counted(fitted.bags, 'bag')} of "
        f"{counted(fitted.images, 'image')}; belt axis: {fusion.axis}; a detection is right by its {on['rule']}",
        soft_wrap=True,
    )
    table = table_of("class", "own score", "counterpart", "that there is one", "bias")
    for name, (bias, own, other, there) in zip(fitted.class_names, fusion.weights, strict=True):
        table.add_row(escape(name), *(f"{one:.2f}" for one in (own, other, there, bias)))
    console.print(table)
    table = table_of("P_D, %", *(f"at P_FA {shown_percent(rate)} %" for rate in FALSE_ALARM_RATES))
    table.add_row("the best view", *map(shown_percent, fitted.best))
    table.add_row("fused, on bags that it is not fitted on", *map(shown_percent, fitted.fused))
    console.print(table)
    console.print(f"the weights are in {escape(str(path))}", soft_wrap=True)


def notes_of(choice: "Choice") -> list[str]:
    """What is not to be taken at its word."""
    on = choice.chosen_on
    notes = [*choice.notes, *too_few_clean(on["clean"], [choice.false_alarms], choice.confidence)]
    if on["threats"] < LEAST_THREATS:
        notes.append(f"{counted(on['threats'], 'bag')} with a threat tell little about thresholds")
    if all(math.isinf(one) for one in choice.thresholds.values()):
        notes.append("no class ever alarms at this point: no threshold detects a threat with so few false alarms")
    if choice.unseen:
        notes.append(f"no bag has {', '.join(choice.unseen)}: these have the threshold that all have together")
    if choice.across is None:
        notes.append("the figures are of the bags that the thresholds were chosen on: on others they are worse")
    elif choice.across.false_alarms.low > choice.false_alarms:
        notes.append(
            f"on bags that it is not chosen on P_FA is {shown_percent(choice.across.false_alarms.value)} %: for "
            f"{shown_percent(choice.false_alarms)} % there, ask for less, or add clean bags"
        )
    return notes


def too_few_clean(clean: int, rates: Sequence[float], confidence: float) -> list[str]:
    """A note where the clean bags are too few to show one of the P_FA in 0..1, by the rule of three."""
    least = least_false_alarms(clean, confidence)
    unsupported = [rate for rate in rates if rate < least]
    if not unsupported:
        return []
    shown, needed = ", ".join(map(shown_percent, unsupported)), clean_bags_for(min(unsupported), confidence)
    return [
        f"{counted(clean, 'clean bag')} can't show a P_FA of {shown} %: with no false alarm at all it may be "
        f"{shown_percent(least)} %; {needed} clean bags could"
    ]


def shown_threshold(score: float) -> str:
    """With as many digits as tell it from 1 and from 0, rounded down: what is let through at it still is."""
    if not math.isfinite(score):
        return "none"
    digits = 3
    while digits < 9 and (abs(score) < 10 ** (2 - digits) or 0 < 1 - score < 10 ** (2 - digits)):
        digits += 1
    return f"{math.floor(score * 10**digits) / 10**digits:.{digits}f}"


def shown_percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.3g}"


def shown_interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{shown_percent(low)} to {shown_percent(high)}"


def shown_rate(rate: Rate) -> str:
    """A share with its interval."""
    return "-" if math.isnan(rate.value) else f"{shown_percent(rate.value)} ({shown_interval(rate.low, rate.high)})"


def _judgements(rows: Mapping[str, Judgement]) -> Table:
    table = table_of("%", "P_FA", "P_D", "alarms")
    for name, one in rows.items():
        table.add_row(name, *map(shown_rate, (one.false_alarms, one.detection, one.alarms)))
    return table


def _thresholds(thresholds: Mapping[str, float], judgement: Judgement) -> Table:
    table = table_of("class", "threshold", "with it", "P_D, %", "alarms of clean bags, %")
    rows = zip(thresholds.items(), judgement.classes, judgement.class_alarms, strict=True)
    for (name, threshold), found, false in rows:
        table.add_row(
            escape(name), shown_threshold(threshold), str(found.bags), shown_rate(found), shown_percent(false.value)
        )
    return table
