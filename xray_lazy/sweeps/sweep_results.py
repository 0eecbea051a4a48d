"""The result of a sweep: a table of its trials, a page of plots, and the best trial's config as files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from xray_lazy.config.override_text import override, value_text
from xray_lazy.sweeps.axes import short_names
from xray_lazy.sweeps.best_config import write_best_config
from xray_lazy.sweeps.figure_page import Section, make_page
from xray_lazy.sweeps.matrix import draw_matrix, format_matrix, matrix_of
from xray_lazy.sweeps.sweep_file import Metric, Sweep
from xray_lazy.sweeps.sweep_plots import (
    FEWEST_FOR_IMPORTANCES,
    can_tell_importances,
    draw_history,
    draw_importances,
    draw_learning_curves,
    draw_parallel_coordinates,
    draw_slices,
    with_curve,
)
from xray_lazy.sweeps.trials import Trial, best_trial
from xray_lazy.utils.atomic_file import write_text
from xray_lazy.utils.wording import counted

TABLE_NAME, PAGE_NAME, BEST_CONFIG_NAME = "trials.csv", "results.html", "best_config.yaml"
SHOWN_TRIALS = 30
# best first, then what may still become something, then what didn't
ORDER = ("finished", "running", "interrupted", "pruned", "failed", "killed")


def write_results(folder: Path, sweep: Sweep, trials: Sequence[Trial]) -> list[Path]:
    """Write `trials.csv`, `results.html` and, where there is a best trial, `best_config.yaml`; returns their paths.

    Each takes its name only when it is whole. It takes about a second, so it can be called after every trial.
    """
    table, page, config = folder / TABLE_NAME, folder / PAGE_NAME, folder / BEST_CONFIG_NAME
    write_text(table, _csv(sweep, trials))
    write_text(page, make_page(sweep.name, summarize(sweep, trials), sections_of(sweep, trials)))
    written = [table, page]
    best = best_trial(sweep.metric, trials)
    if best and write_best_config(config, sweep.name, _value_of(sweep.metric, best), best, folder / "best"):
        written.append(config)
    return written


def format_results(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """The console's table, best trials first, and a line about all of them."""
    headers, rows = trial_table(sweep, trials)
    text = [tabulate(rows[:SHOWN_TRIALS], headers, tablefmt="simple", disable_numparse=True)] if rows else []
    if len(rows) > SHOWN_TRIALS:
        text.append(f"and {len(rows) - SHOWN_TRIALS} more in {TABLE_NAME}")
    text.append(summarize(sweep, trials))
    best = best_trial(sweep.metric, trials)
    if best:
        text.append("  " + " ".join(override(key, best.parameters[key]) for key in sweep.varied))
    if matrix := matrix_of(sweep, trials):
        text.append(f"\n{format_matrix(matrix)}")
    return "\n".join(text)


def summarize(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """How many trials have come to which end, and the best one, in a line."""
    counts = {state: sum(trial.state == state for trial in trials) for state in ORDER}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    best = best_trial(sweep.metric, trials)
    end = f"; best: trial {best.number} with {_value_of(sweep.metric, best)}" if best else ""
    return f"{counted(len(trials), 'trial')}{f': {states}' if states else ''}{end}"


def trial_table(sweep: Sweep, trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows as text: number, state, value, the parameters that vary, minutes, and why one has no value."""
    names = short_names(sweep.varied)
    reasons = any(trial.reason for trial in trials)
    headers = ["trial", "state", sweep.metric.name, *names.values(), "minutes", *(["reason"] if reasons else [])]
    return headers, [_row(sweep, trial, reasons) for trial in rank(sweep.metric, trials)]


def rank(metric: Metric, trials: Sequence[Trial]) -> list[Trial]:
    """The trials by state (`ORDER`), finished ones with the best value first, others by their number."""
    sign = -1 if metric.goal == "maximize" else 1

    def place(trial: Trial) -> tuple:
        return ORDER.index(trial.state), sign * (trial.value or 0.0), trial.number

    return sorted(trials, key=place)


def sections_of(sweep: Sweep, trials: Sequence[Trial]) -> list[Section]:
    """The page's parts: the figures that the trials are enough for, a word about others, and the table."""
    headers, rows = trial_table(sweep, trials)
    return [*_plots(sweep, trials), Section("Trials", "Best first.", table=[headers, *rows])]


def figure_sections(sweep: Sweep, trials: Sequence[Trial]) -> list[Section]:
    """Those of the page's parts that have a figure."""
    return [section for section in _plots(sweep, trials) if section.figure is not None]


def _plots(sweep: Sweep, trials: Sequence[Trial]) -> list[Section]:
    metric = sweep.metric
    if best_trial(metric, trials) is None:
        return [Section("No plots yet", "They come with the first finished trial."), *_curves(metric, trials)]
    text = f"{metric.name}, to {metric.goal}, trial by trial."
    sections = [*_matrix_section(sweep, trials), Section("History", text, draw_history(metric, trials))]
    if sweep.varied:
        text = (
            "A line per finished trial; orange is better. Drag along an axis to choose trials, drag a name to move it."
        )
        figure, width = draw_parallel_coordinates(sweep, trials), 140 * (len(sweep.varied) + 1)
        sections.append(Section("Parallel coordinates", text, figure, least_width=width))
        text = f"{metric.name} over each parameter by itself. Orange is the best trial."
        sections.append(Section("Slices", text, draw_slices(sweep, trials), least_width=800))
        sections.append(_importance_section(sweep, trials))
    return [*sections, *_curves(metric, trials)]


def _matrix_section(sweep: Sweep, trials: Sequence[Trial]) -> list[Section]:
    matrix = matrix_of(sweep, trials)
    if matrix is None:
        return []
    text = f"{matrix.metric} of what was trained on some sets, on each of the test sets; the last columns are means."
    width = 160 + 90 * len(matrix.tested)
    return [Section("Across sets", text, draw_matrix(matrix), least_width=width)]


def _curves(metric: Metric, trials: Sequence[Trial]) -> list[Section]:
    if not with_curve(trials):
        return []
    text = f"{metric.name}, to {metric.goal}, over the iterations. Orange is the best trial; grey ones were pruned."
    return [Section("Learning curves", text, draw_learning_curves(metric, trials))]


def _importance_section(sweep: Sweep, trials: Sequence[Trial]) -> Section:
    if not can_tell_importances(sweep, trials):
        text = (
            f"They need {FEWEST_FOR_IMPORTANCES} finished trials with different values, and two parameters that vary."
        )
        return Section("Importances", text)
    text = "How much of the difference between the best tenth and all trials each parameter makes (PED-ANOVA)."
    count = sum(trial.state == "finished" for trial in trials)
    hint = f" With {counted(count, 'trial')} this is a hint, no more." if count < 30 else ""
    return Section("Importances", text + hint, draw_importances(sweep, trials))


def _value_of(metric: Metric, trial: Trial) -> str:
    return f"{metric.name} {_digits(trial.value)}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _row(sweep: Sweep, trial: Trial, with_reason: bool) -> list[str]:
    minutes = "" if trial.seconds is None else f"{trial.seconds / 60:.1f}"
    settings = [_setting(trial.parameters[key]) if key in trial.parameters else "" for key in sweep.varied]
    reason = [" ".join(trial.reason.split())] if with_reason else []
    return [str(trial.number), trial.state, _digits(trial.value), *settings, minutes, *reason]


def _setting(value: object) -> str:
    return _digits(value) if isinstance(value, float) else value_text(value)


def _csv(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """All parameters by their keys and all digits, for other programs."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    facts = ["minutes", "started", "ended", "worker", "folder", "reason"]
    writer.writerow(["trial", "state", sweep.metric.name, *sweep.parameters, *facts])
    for trial in rank(sweep.metric, trials):
        settings = [value_text(trial.parameters[key]) if key in trial.parameters else "" for key in sweep.parameters]
        times = [time.isoformat(timespec="seconds") if time else "" for time in (trial.started, trial.ended)]
        minutes = "" if trial.seconds is None else round(trial.seconds / 60, 2)
        last = [minutes, *times, trial.worker, trial.folder, " ".join(trial.reason.split())]
        writer.writerow([trial.number, trial.state, trial.value, *settings, *last])
    return stream.getvalue()
