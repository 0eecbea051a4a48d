"""What runs that were trained on different scanners find on each of several test sets."""

import math
from collections.abc import Sequence

from xray_lazy.report.blocks import Block, Table
from xray_lazy.report.outcome import best_evaluation, setting
from xray_lazy.report.readable_numbers import numeric, text
from xray_lazy.report.run_files import RunFiles
from xray_lazy.sweeps.matrix import ALL, TRAINED_ON, UNSEEN, by_set, join_rows, scanners_of

FIGURES = {"P_D at a P_FA of 5 %": "screening/P_D@5", "Mask AP": "segm/AP", "Box AP": "bbox/AP"}


def across_sets_blocks(runs: Sequence[RunFiles]) -> list[Block]:
    """A table for each figure; nothing where the test sets were not evaluated apart."""
    blocks: list[Block] = []
    for title, figure in FIGURES.items():
        cells = [_cells(run, figure) for run in runs]
        sets = dict.fromkeys(name for of_run in cells for name in of_run)
        rows = []
        for run, of_run in zip(runs, cells, strict=True):
            trained = _trained_on(run)
            # a row for each run: those of one training set may be of other models
            matrix = join_rows(figure, [(trained, dict.fromkeys(sets, math.nan) | of_run)]) if of_run else None
            if matrix:
                rows.append([text(run.name), text("+".join(trained)), *(numeric(v, 1, 100) for v in matrix.values[0])])
        if rows:
            about = (
                "Each run's best evaluation on each of its test sets. "
                f"{UNSEEN.capitalize()}: over the scanners that were not trained on. Percent."
            )
            columns = ["run", "trained on", *sets, ALL, UNSEEN]
            blocks.append(Table(f"Across scanners: {title}", columns, rows, about, sortable=True, heat_map=True))
    return blocks


def _trained_on(run: RunFiles) -> tuple[str, ...]:
    names = setting(run, *TRAINED_ON.split("."))
    return scanners_of(names) if names else (run.name,)


def _cells(run: RunFiles, figure: str) -> dict[str, float]:
    evaluation = best_evaluation(run, with_detections=False)
    if evaluation is None:
        return {}
    task, _, name = figure.partition("/")
    return by_set(run.scores.get(evaluation.iteration, {}), f"{task}{evaluation.suffix}/{name}")
