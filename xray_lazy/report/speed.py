"""How fast a run was, and where its time went."""

from collections.abc import Sequence
from statistics import median

from xray_lazy.report.blocks import Block, Cell, Charts, Note, Table
from xray_lazy.report.curve_blocks import chart_of
from xray_lazy.report.outcome import outcome_of
from xray_lazy.report.readable_numbers import duration, numeric, share, short_time, text
from xray_lazy.report.run_files import RunFiles

MEGABYTES_PER_GIGABYTE = 1024
CURVES = {
    "time": ("Time of a step", "seconds"),
    "data_time": ("Waiting for data in a step", "seconds"),
    "images_per_second": ("Images per second", ""),
    "max_memory_mb": ("Highest GPU memory so far", "MB"),
}


def speed_blocks(runs: Sequence[RunFiles]) -> list[Block]:
    if not any(run.values("time")[0] for run in runs):
        return [Note("No times were logged.", "hooks.progress logs them")]
    rows = [[text(label), *cells] for label, cells in _figures(runs).items()]
    names = [run.name for run in runs] if len(runs) > 1 else [""]
    blocks: list[Block] = [
        Table("Time", ["", *names], rows, "Steps count from asking for data to the optimizer's step, as medians."),
    ]
    if len(runs) == 1:
        blocks += _where_time_went(runs[0])
    charts = [
        chart_of(runs, name, title, unit)
        for name, (title, unit) in CURVES.items()
        if any(run.values(name)[0] for run in runs)
    ]
    return [*blocks, Charts(charts, "Over the run")]


def _figures(runs: Sequence[RunFiles]) -> dict[str, list[Cell]]:
    outcomes = [outcome_of(run) for run in runs]
    memory = [max((v for v in run.values("max_memory_mb")[1] if v is not None), default=None) for run in runs]
    return {
        "whole run": [Cell(duration(o.wall_seconds), o.wall_seconds) for o in outcomes],
        "training steps": [Cell(duration(o.step_seconds), o.step_seconds) for o in outcomes],
        "a step": [Cell(short_time(_median(run, "time")), _median(run, "time")) for run in runs],
        "of it waiting for data": [_data_share(run) for run in runs],
        "images per second": [numeric(_median(run, "images_per_second")) for run in runs],
        "highest GPU memory, GB": [
            numeric(m / MEGABYTES_PER_GIGABYTE) if m is not None else Cell("no GPU", tone="quiet") for m in memory
        ],
    }


def _data_share(run: RunFiles) -> Cell:
    waiting, step = _median(run, "data_time"), _median(run, "time")
    return Cell(f"{short_time(waiting)} ({share(waiting, step)})", waiting)


def _where_time_went(run: RunFiles) -> list[Block]:
    """Bars of the parts of the wall clock's time."""
    outcome = outcome_of(run)
    if outcome.wall_seconds is None or outcome.step_seconds is None:
        return []
    steps, waiting = outcome.step_seconds, outcome.data_seconds or 0.0
    other = max(0.0, outcome.wall_seconds - steps)
    whole = steps + other
    rows = [
        [text(label), Cell(duration(seconds), seconds, seconds / whole), Cell(share(seconds, whole), seconds)]
        for label, seconds in (
            ("model and optimizer", steps - waiting),
            ("waiting for data", waiting),
            ("start, evaluation, checkpoints, writers", other),
        )
    ]
    return [Table("Where the time went", ["part", "time", "share"], rows)]


def _median(run: RunFiles, name: str) -> float | None:
    values = [value for value in run.values(name)[1] if value is not None]
    return median(values) if values else None
