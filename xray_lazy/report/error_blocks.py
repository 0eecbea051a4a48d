"""What the model gets wrong: kinds of error, confusion, thresholds, calibration, and items that are hard."""

from collections.abc import Sequence
from pathlib import Path

from xray_lazy.analysis.results import Calibration, Curve, Group, TaskResult
from xray_lazy.errors import UserError
from xray_lazy.report.blocks import Block, Cell, Chart, Charts, Heading, Matrix, Note, Series, Table
from xray_lazy.report.readable_numbers import DASH, numeric, text, whole
from xray_lazy.report.review import Reviews
from xray_lazy.report.run_files import RunFiles

MOST_CURVES = 20
MOST_SUSPECTS = 20
# A confusion matrix of more classes can't be read in a page.
MOST_MATRIX_CLASSES = 40
KINDS_OF_SUSPECT = {"missing": "nothing is annotated there", "class": "{}", "location": "{} in another place or shape"}


def error_blocks(runs: Sequence[RunFiles], reviews: Reviews) -> list[Block]:
    blocks: list[Block] = []
    found: list[tuple[RunFiles, TaskResult]] = []
    for run in runs:
        try:
            found.append((run, reviews[run].analysis.main))
        except UserError as error:
            which = f" of {run.name}" if len(runs) > 1 else ""
            blocks.append(Note(f"Errors{which} can't be shown: {error.message}.", error.fix))
    if not found:
        return blocks
    if len(found) > 1:
        return [*blocks, _kinds_chart(found), *_compared_curves(found), *_matrices(found), *_groups_compared(found)]
    run, result = found[0]
    task = "masks" if "segm" in reviews[run].analysis.tasks else "boxes"
    threshold = f"{result.score_threshold:.2f}"
    intro = f"By {task}, at IoU 0.5. Counts are of detections with a score of at least {threshold}" + (
        "; nothing is found yet at any score: train longer." if result.finds_nothing else ", where F1 is highest."
    )
    return [
        *blocks,
        Note(intro),
        _kinds_chart(found),
        _kinds_table(result),
        *_matrices(found),
        Charts(_class_curves(result), "Precision, recall and the choice of a threshold"),
        *_calibration(found),
        *_groups(result),
        *_suspects(result),
    ]


def _kinds_chart(found: Sequence[tuple[RunFiles, TaskResult]]) -> Block:
    names = [kind.name for kind in found[0][1].errors.kinds]
    meanings = {kind.name: _kind_name(kind.name) for kind in found[0][1].errors.kinds}
    series = [
        Series(
            run.name if len(found) > 1 else "lost AP50", range(len(names)), [kind.lost_ap for kind in task.errors.kinds]
        )
        for run, task in found
    ]
    text = "By how much AP50 would be higher without errors of each kind (TIDE). The parts do not add up."
    return Charts(
        [
            Chart(
                "",
                series,
                x_label="",
                y_label="points of AP50",
                names=[meanings[n] for n in names],
                bars=True,
                wide=True,
            )
        ],
        "What costs the most",
        text,
    )


def _kind_name(name: str) -> str:
    words = {
        "Cls": "class",
        "Loc": "location",
        "Both": "class and location",
        "Dupe": "duplicate",
        "Bkg": "background",
        "Miss": "missed",
    }
    return words.get(name, name)


def _kinds_table(result: TaskResult) -> Block:
    rows = [
        [
            text(_kind_name(kind.name)),
            numeric(kind.lost_ap),
            whole(kind.count_shown),
            whole(kind.count),
            Cell(kind.meaning, tone="quiet"),
        ]
        for kind in result.errors.kinds
    ]
    errors = result.errors
    about = (
        f"AP50 is {errors.ap50:.1f}. Without any false detection it would be {errors.ap50 + errors.lost_to_false:.1f}, "
        f"without any missed item {errors.ap50 + errors.lost_to_missed:.1f}."
    )
    return Table("Kinds of error", ["kind", "lost AP50", "shown", "all scores", ""], rows, about, sortable=True)


def _matrices(found: Sequence[tuple[RunFiles, TaskResult]]) -> list[Block]:
    about = (
        "Rows are the truth, columns the detections; the shade is the share of the row. The last column counts items "
        "that were missed, the last row detections where nothing is."
    )
    blocks: list[Block] = [Heading("What is taken for what", about)]
    for run, result in found:
        title = run.name if len(found) > 1 else ""
        names, counts = result.confusion.names, result.confusion.counts
        readable = len(names) <= MOST_MATRIX_CLASSES
        blocks.append(Matrix(title, names, counts) if readable else _confused_pairs(title, names, counts))
    return blocks


def _confused_pairs(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> Block:
    pairs = [
        (counts[row][column], names[row], names[column])
        for row in range(len(names))
        for column in range(len(names))
        if row != column and counts[row][column]
    ]
    rows = [[text(truth), text(detected), whole(times)] for times, truth, detected in sorted(pairs, reverse=True)[:50]]
    return Table(title, ["truth", "taken for", "times"], rows, "The 50 most frequent mistakes.", sortable=True)


def _class_curves(result: TaskResult) -> list[Chart]:
    classes = sorted((c for c in result.classes if c.curve.scores), key=lambda c: -c.instances)[:MOST_CURVES]
    return [
        _precision_recall([*_all_classes(result), *[(c.name, c.curve) for c in classes]]),
        _f1([*_all_classes(result), *[(c.name, c.curve) for c in classes]]),
    ]


def _all_classes(result: TaskResult) -> list[tuple[str, Curve]]:
    return [("all classes", result.curve)] if result.curve.scores else []


def _compared_curves(found: Sequence[tuple[RunFiles, TaskResult]]) -> list[Block]:
    curves = [(run.name, result.curve) for run, result in found if result.curve.scores]
    charts = [_precision_recall(curves), _f1(curves), _calibration_chart([(r.name, t.calibration) for r, t in found])]
    return [Charts(charts, "Curves of all classes together")]


def _precision_recall(curves: Sequence[tuple[str, Curve]]) -> Chart:
    series = [Series(name, curve.recall, curve.precision) for name, curve in curves]
    return Chart("Precision over recall", series, "recall", "precision", x_range=(0, 1), y_range=(0, 1))


def _f1(curves: Sequence[tuple[str, Curve]]) -> Chart:
    series = [Series(name, curve.scores[::-1], curve.f1[::-1]) for name, curve in curves]
    text = "The top of a curve is its best threshold."
    return Chart("F1 by score threshold", series, "score threshold", "F1", text, (0, 1), (0, 1))


def _calibration(found: Sequence[tuple[RunFiles, TaskResult]]) -> list[Block]:
    calibration = found[0][1].calibration
    if not any(one.count for one in calibration.bins):
        return []
    counts = [one.count for one in calibration.bins]
    names = [f"{one.lower:.1f}{DASH}{one.upper:.1f}" for one in calibration.bins]
    histogram = Chart(
        "Detections by score", [Series("detections", range(len(counts)), counts)], "score", bars=True, names=names
    )
    about = (
        "A score of 0.8 should be right in 8 of 10 cases: points below the line are too sure of themselves. "
        f"The mean distance is {calibration.ece:.3f} (ECE), that of the worst bin {calibration.largest_error:.2f}."
    )
    return [
        Charts([_calibration_chart([("this run", calibration)]), histogram], "Do the scores mean what they say?", about)
    ]


def _calibration_chart(calibrations: Sequence[tuple[str, Calibration]]) -> Chart:
    series = []
    for name, calibration in calibrations:
        bins = [one for one in calibration.bins if one.count]
        series.append(Series(name, [one.mean_score for one in bins], [one.share_right for one in bins]))
    return Chart("Calibration", series, "score", "share that is right", "", (0, 1), (0, 1), diagonal=True)


def _groups(result: TaskResult) -> list[Block]:
    blocks: list[Block] = []
    for title, groups in _group_kinds(result):
        rows = [
            [
                text(group.name),
                whole(group.instances),
                whole(group.images),
                numeric(group.ap, 1, 100),
                numeric(group.ap50),
                numeric(group.ar),
                numeric(100 * group.found, 0, 100),
            ]
            for group in groups
        ]
        blocks.append(Table(title, ["", "items", "images", "AP", "AP50", "AR", "found, %"], rows))
    return blocks


def _groups_compared(found: Sequence[tuple[RunFiles, TaskResult]]) -> list[Block]:
    blocks: list[Block] = []
    for kinds in zip(*(_group_kinds(result) for _, result in found), strict=False):
        title = kinds[0][0]
        by_run = [{group.name: group for group in groups} for _, groups in kinds]
        rows = [
            [
                text(name),
                whole(group.instances),
                *(numeric(own[name].ap if name in own else None, 1, 100) for own in by_run),
            ]
            for name, group in by_run[0].items()
        ]
        blocks.append(Table(f"AP {title.lower()}", ["", "items", *(run.name for run, _ in found)], rows))
    return blocks


def _group_kinds(result: TaskResult) -> list[tuple[str, Sequence[Group]]]:
    kinds = [("By size of the item", result.by_size), ("By scanner", result.by_scanner)]
    kinds.append(("By how much other items cover it", result.by_occlusion))
    return [(title, groups) for title, groups in kinds if len(groups) > 1]


def _suspects(result: TaskResult) -> list[Block]:
    suspects = result.label_suspects[:MOST_SUSPECTS]
    if not suspects:
        return []
    rows = [
        [
            text(Path(suspect.file_name).name),
            text(suspect.detected_class),
            numeric(suspect.score, 2),
            text(KINDS_OF_SUSPECT[suspect.kind].format(suspect.annotated_class)),
        ]
        for suspect in suspects
    ]
    about = "Detections so sure of themselves that the ground truth may be what is wrong; tools/analyze.py draws them."
    return [Table("Labels to look at", ["image", "detected", "score", "ground truth"], rows, about, sortable=True)]
