"""The metrics: summary, by class, and of each evaluation."""

import csv
from collections.abc import Mapping, Sequence

from xray_lazy.analysis.comparison import compare
from xray_lazy.engine.metric_names import better
from xray_lazy.errors import UserError
from xray_lazy.report.blocks import Block, Cell, Note, Table
from xray_lazy.report.data import recorded
from xray_lazy.report.outcome import best_evaluation, best_of, main_metric
from xray_lazy.report.readable_numbers import MINUS, difference, numeric, text, whole
from xray_lazy.report.review import Reviews
from xray_lazy.report.run_files import RunFiles
from xray_lazy.run_folder import CATEGORIES, Evaluation

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
MEANINGS = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "small items, below 32² pixels",
    "APm": "medium items",
    "APl": "large items, from 96² pixels on",
    "AR1": "recall with 1 detection per image and class",
    "AR10": "recall with 10",
    "AR100": "recall with 100",
    "ARs": "recall of small items",
    "ARm": "recall of medium items",
    "ARl": "recall of large items",
}
TONES = {"better": "good", "worse": "bad"}
FIGURES = ("AP", "AP50", "AP75", "AR")
NO_EVALUATION = Note(
    "There is no evaluation yet.",
    "they come every train.eval_period iterations and at the end; tools/lazy_train.py --eval-only",
)


def result_blocks(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    best = {run.name: evaluation for run in runs if (evaluation := _best(run))}
    if not best:
        return [NO_EVALUATION]
    if len(runs) > 1:
        return [summary_comparison(runs), *_significance(runs, reviews), *_class_comparison(best)]
    run = runs[0]
    evaluation = best[run.name]
    return [_summary(evaluation), *_sets(evaluation), *_classes(run, evaluation, reviews), _history(run)]


def summary_comparison(runs: Sequence[RunFiles], figures: Sequence[str] = SUMMARY) -> Block:
    """Each run's best evaluation, and by how much it differs from the first run's."""
    best = [_best(run) for run in runs]
    values = [dict(evaluation.metrics) if evaluation else {} for evaluation in best]
    suffixes = [evaluation.suffix if evaluation else "" for evaluation in best]
    rows = []
    for task in ("segm", "bbox"):
        for figure in figures:
            found = [v.get(f"{task}{s}/{figure}") for v, s in zip(values, suffixes, strict=True)]
            if any(value is not None for value in found):
                rows.append([text(_named(task, figure)), *_compared(found, figure)])
    places = "; ".join(f"{r.name}: {_place(e)}" for r, e in zip(runs, best, strict=True) if e)
    if not rows:
        return NO_EVALUATION
    about = f"{places}.{_how_sets_differ(runs)} Percent."
    return Table("Best evaluations side by side", ["", *_run_columns(runs)], rows, about)


def _how_sets_differ(runs: Sequence[RunFiles]) -> str:
    """A sentence where the evaluations are not of the same set, or of other annotations under its name."""
    names, annotations = set(), set()
    for run in runs:
        if evaluation := _best(run):
            names.add(evaluation.dataset)
            record = recorded(run, "test")
            if record.get("name") == evaluation.dataset and (digests := (record.get("files") or {}).values()):
                annotations.add(tuple(map(str, digests)))
    if len(names) > 1:
        return f" Mind that they are of different data sets: {', '.join(sorted(names))}."
    return f" Mind that their annotations of {names.pop()} differ." if len(annotations) > 1 else ""


def _significance(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    """Whether a difference is more than what the choice of the evaluation images makes."""
    blocks: list[Block] = []
    apart = any(len(evaluation.parts) > 1 for run in runs if (evaluation := _best(run)))
    for other in runs[1:]:
        try:
            compared = compare(reviews[runs[0]].inputs, reviews[other].inputs)
        except UserError as error:
            why = error.message
            blocks.append(Note(f"{runs[0].name} and {other.name} can't be compared image by image: {why}.", error.fix))
            continue
        rows = [
            [
                text(_named(task, one.name)),
                numeric(one.first),
                numeric(one.second),
                difference(one.second, one.first),
                text(f"{one.lower:+.1f} to {one.upper:+.1f}".replace("-", MINUS)),
                Cell(one.verdict, tone=TONES.get(one.verdict, "quiet")),
            ]
            for task in ("segm", "bbox")
            for one in compared.tasks.get(task, ())
            if not one.name.startswith("AP-")
        ]
        bags = "" if compared.bags == compared.images else f" of {compared.bags:,} bags"
        joined = " All sets are taken as one here, where the table above has their means." if apart else ""
        about = (
            f"On the same {compared.images:,} images{bags}, which were drawn anew {compared.resamples:,} times: the "
            f"{100 * compared.confidence:.0f}% interval says how much of a change may come from which images "
            f"these are. It says nothing of what another seed would change.{joined}"
        )
        columns = ["", runs[0].name, other.name, "±", "interval", ""]
        blocks.append(Table(f"Is {other.name} really different from {runs[0].name}?", columns, rows, about))
    return blocks


def _run_columns(runs: Sequence[RunFiles]) -> list[str]:
    return [runs[0].name, *(column for run in runs[1:] for column in (run.name, "±"))]


def _compared(values: Sequence[float | None], figure: str = "AP") -> list[Cell]:
    first, *others = values
    cells = [numeric(first)]
    for value in others:
        cells += [numeric(value), difference(value, first)]
    return cells


def _summary(evaluation: Evaluation) -> Block:
    tasks = [task for task in ("segm", "bbox") if f"{task}{evaluation.suffix}/AP" in evaluation.metrics]
    rows = []
    for figure in SUMMARY:
        values = [evaluation.metrics.get(f"{task}{evaluation.suffix}/{figure}") for task in tasks]
        if any(value is not None for value in values):
            rows.append(
                [text(figure), *(numeric(value, 1, 100) for value in values), Cell(MEANINGS[figure], tone="quiet")]
            )
    titles = [{"segm": "masks", "bbox": "boxes"}[task] for task in tasks]
    images = f", {evaluation.images:,} images" if evaluation.images else ""
    about = f"{_place(evaluation)} on {evaluation.dataset}{images}. Percent."
    return Table("Best evaluation", ["", *titles, ""], rows, about)


def _sets(evaluation: Evaluation) -> list[Block]:
    """Each of several sets that were evaluated apart."""
    if len(evaluation.parts) == 1:
        return []
    figures = [("segm", "AP"), ("segm", "AP50"), ("bbox", "AP"), ("bbox", "AP50"), ("screening", "P_D@5")]
    names = {
        f"{task}{evaluation.suffix}/{figure}": _named(task, figure).removeprefix("screening ")
        for task, figure in figures
    }
    all_of_them = [*evaluation.parts, evaluation]
    names = {n: title for n, title in names.items() if any(one.metrics.get(n) is not None for one in all_of_them)}
    rows = [
        [text(one.dataset if one is not evaluation else "all"), whole(one.images)]
        + [numeric(one.metrics.get(name)) for name in names]
        for one in all_of_them
    ]
    about = "AP of all sets is their mean; P_D at 5 % of false alarms is of the bags of all of them together."
    return [Table("By data set", ["set", "images", *names.values()], rows, about, sortable=True)]


def _classes(run: RunFiles, evaluation: Evaluation, reviews: Reviews) -> list[Block]:
    rows = read_categories(evaluation)
    if not rows:
        return []
    tasks = [task for task in ("segm", "bbox") if f"{task}/AP" in rows[0]]
    columns = ["class", "items", "images"]
    columns += [f"{_short(task)} {figure}" for task in tasks for figure in FIGURES]
    thresholds = _thresholds(run, reviews)
    columns += ["best F1", "at score"] if thresholds else []
    cells = []
    for row in rows:
        line = [text(row["class"]), whole(_integer(row["instances"])), whole(_integer(row["images"]))]
        for task in tasks:
            for figure in FIGURES:
                line.append(numeric(_float(row.get(f"{task}/{figure}")), 1, 100 if figure == "AP" else None))
        if thresholds:
            f1, score = thresholds.get(row["class"], (None, None))
            line += [numeric(f1, 2), numeric(score, 2)]
        cells.append(line)
    about = "Choose a column's head to sort by it."
    if thresholds:
        about += " F1 at IoU 0.5, highest when detections from this score on are kept."
    return [Table("By class", columns, cells, about, sortable=True, filterable=len(cells) > 15)]


def _thresholds(run: RunFiles, reviews: Reviews) -> dict[str, tuple[float, float]]:
    try:
        classes = reviews[run].analysis.main.classes
    except UserError:
        return {}
    return {result.name: (result.curve.best_f1, result.curve.best_threshold) for result in classes}


def _class_comparison(best: Mapping[str, Evaluation]) -> list[Block]:
    tables = {name: {row["class"]: row for row in read_categories(e)} for name, e in best.items()}
    classes = dict.fromkeys(name for table in tables.values() for name in table)
    blocks: list[Block] = []
    for task in ("segm", "bbox"):
        rows = []
        for name in classes:
            found = [_float(table.get(name, {}).get(f"{task}/AP")) for table in tables.values()]
            items = next((_integer(table[name]["instances"]) for table in tables.values() if name in table), None)
            if any(value is not None for value in found):
                rows.append([text(name), whole(items), *_compared(found)])
        if rows:
            first, *others = tables
            columns = ["class", "items", first, *(column for other in others for column in (other, "±"))]
            title = f"{_short(task).capitalize()} AP by class"
            blocks.append(Table(title, columns, rows, f"± is the difference from {first}.", sortable=True))
    return blocks


def _history(run: RunFiles) -> Block:
    metric = main_metric(run)
    suffix = metric.rpartition("/")[0].rpartition("/")[2].partition("_")[2]
    suffix = f"_{suffix}" if suffix else ""
    present = {name for scores in run.scores.values() for name in scores}
    names = [f"{task}{suffix}/{figure}" for task in ("segm", "bbox") for figure in ("AP", "AP50", "AP75", "AR100")]
    names = [*names, *((metric,) if metric not in names else ())]
    names = [name for name in names if name in present]
    best = best_of(run, metric)
    rows = []
    for iteration, scores in run.scores.items():
        mark = "best" if best and scores.get(metric) == best.value else ""
        rows.append([whole(iteration + 1), *(numeric(scores.get(name)) for name in names), Cell(mark, tone="good")])
    heads = [_named(*name.rpartition("/")[::2]) for name in names]
    return Table(
        "All evaluations",
        ["iterations", *heads, ""],
        rows,
        f"The best one is that of the {'lowest' if better(metric) == 'min' else 'highest'} {metric}.",
        sortable=True,
    )


def read_categories(evaluation: Evaluation) -> list[dict[str, str]]:
    """The rows of per_category.csv; none where it is missing."""
    try:
        with open(evaluation.folder / CATEGORIES, encoding="utf-8", newline="") as stream:
            return [row for row in csv.DictReader(stream) if row.get("class") is not None]
    except OSError:
        return []


def _best(run: RunFiles) -> Evaluation | None:
    return best_evaluation(run) or best_evaluation(run, with_detections=False)


def _place(evaluation: Evaluation) -> str:
    what = f" ({evaluation.suffix.strip('_')})" if evaluation.suffix else ""
    return f"after {evaluation.iteration + 1:,} iterations{what}"


def _named(task: str, figure: str) -> str:
    return f"{_short(task)} {figure}"


def _short(task: str) -> str:
    base, _, suffix = task.partition("_")
    return {"segm": "mask", "bbox": "box"}.get(base, base) + (f" {suffix}" if suffix else "")


def _float(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _integer(value: str | None) -> int | None:
    number = _float(value)
    return None if number is None else int(number)
