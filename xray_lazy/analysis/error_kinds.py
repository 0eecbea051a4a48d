"""TIDE's kinds of error (Bolya et al., ECCV 2020), what each costs, and errors that the labels may have themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xray_lazy.analysis.results import ErrorKind, Errors, LabelSuspect
from xray_lazy.data.image_detections import coco_box
from xray_lazy.evaluation.coco_metrics import Problem
from xray_lazy.evaluation.matching import NOTHING, Matches, Matching

FOREGROUND, BACKGROUND = 0.5, 0.1
MEANINGS = {
    "Cls": "right place, wrong class",
    "Loc": "right class, inexact place",
    "Both": "inexact place and wrong class",
    "Dupe": "found once more",
    "Bkg": "nothing is there",
    "Miss": "item that no detection is near",
}
MISSED_BY_THOSE_COUNTED = "item that none of the counted detections is near"
# A detection that is found once more tells nothing of the labels, and one that is wrong in place and class little.
SUSPECT_KINDS = {"Bkg": "missing", "Cls": "class", "Loc": "location"}


@dataclass(frozen=True)
class ErrorTable:
    """The kind of each error at IoU 0.5.

    kind: (D,) name of the kind; "" for detections that are right or don't count. item, iou: (D,) the item that the kind
    was told by, or NOTHING, and its IoU. missed: (G,) bool, items without a detection that had only to be corrected.
    """

    kind: np.ndarray
    item: np.ndarray
    iou: np.ndarray
    missed: np.ndarray


def classify(matching: Matching) -> ErrorTable:
    """Tell the kind of each wrong detection, and which items are missed."""
    matches = matching.matches
    count = len(matches.scores)
    table = ErrorTable(
        kind=np.full(count, "", dtype="<U4"),
        item=np.full(count, NOTHING),
        iou=np.zeros(count),
        missed=~matches.crowd & (matches.annotation_match[0] == NOTHING),
    )
    wrong = np.flatnonzero(matches.wrong[0])
    items = np.flatnonzero(~matches.crowd)
    item_rows = _rows_by_image(matches.annotation_image[items], items)
    for image, rows in _rows_by_image(matches.image[wrong], wrong).items():
        beside = item_rows.get(image)
        if beside is None:
            table.kind[rows] = "Bkg"
            continue
        overlaps = overlap(matching.problem, rows, beside)
        for row, overlap_of_row in zip(rows, overlaps, strict=True):
            same = matches.annotation_category[beside] == matches.category[row]
            kind, place = _kind(overlap_of_row, same)
            table.kind[row] = kind
            if place is not None:
                table.item[row], table.iou[row] = beside[place], overlap_of_row[place]
    corrected = table.item[np.isin(table.kind, ("Loc", "Cls"))]
    table.missed[corrected] = False
    return table


def _kind(overlaps: np.ndarray, same: np.ndarray) -> tuple[str, int | None]:
    """The kind of a wrong detection and the item that tells it, from its IoU with each item (n,) and whose class it is.

    A place that has only to be made exact comes before a class that has only to be changed, as in TIDE's own code.
    """
    of_class, of_others = np.where(same, overlaps, 0), np.where(same, 0, overlaps)
    if BACKGROUND <= of_class.max() <= FOREGROUND:
        return "Loc", int(of_class.argmax())
    if of_others.max() >= FOREGROUND:
        return "Cls", int(of_others.argmax())
    if of_class.max() >= FOREGROUND:
        return "Dupe", int(of_class.argmax())
    if overlaps.max() <= BACKGROUND:
        return "Bkg", None
    return "Both", int(overlaps.argmax())


def tide_errors(matching: Matching, table: ErrorTable, score_threshold: float) -> Errors:
    """Counts of the kinds, and hotcoco's figures of what they cost."""
    matches, found = matching.matches, matching.tide_errors(FOREGROUND, BACKGROUND)
    measured = bool((~matches.crowd).any())
    lost = {name: 100 * value if measured else float("nan") for name, value in found["delta_ap"].items()}
    shown = matches.scores >= score_threshold
    kinds = []
    for name, meaning in MEANINGS.items():
        if name == "Miss":
            count = count_shown = int(table.missed.sum())
        else:
            count = int((table.kind == name).sum())
            count_shown = int(((table.kind == name) & shown).sum())
        if name == "Miss" and not matches.counted.all():
            meaning = MISSED_BY_THOSE_COUNTED
        kinds.append(ErrorKind(name, meaning, count, count_shown, lost[name]))
    ap50 = 100 * found["ap_base"] if measured else float("nan")
    return Errors(ap50, tuple(kinds), lost["FP"], lost["FN"], FOREGROUND, BACKGROUND)


def errors_of_class(
    matches: Matches, table: ErrorTable, category: int, score_threshold: float = -np.inf
) -> dict[str, int]:
    """How many errors of each kind a class's detections have, and how many of its items are missed."""
    kinds = table.kind[(matches.category == category) & (matches.scores >= score_threshold)]
    counts = {name: int((kinds == name).sum()) for name in MEANINGS}
    counts["Miss"] = int(table.missed[matches.annotation_category == category].sum())
    return counts


def label_suspects(
    ground_truth: Mapping[str, Any], matching: Matching, table: ErrorTable, score_threshold: float
) -> tuple[LabelSuspect, ...]:
    """Wrong detections of at least `score_threshold`, the highest score first.

    Left out are those that point at an item which a right detection has found already: the item's label holds then.

    Args:
        ground_truth: whose annotations are in the order of the matches' items.
    """
    matches, names = matching.matches, matching.matches.class_names
    images = {image["id"]: image for image in ground_truth["images"]}
    rows = np.flatnonzero(np.isin(table.kind, list(SUSPECT_KINDS)) & (matches.scores >= score_threshold))
    suspects = []
    for row in rows[np.argsort(-matches.scores[rows], kind="stable")]:
        item = int(table.item[row])
        if item != NOTHING and matches.annotation_match[0][item] != NOTHING and _shown(matches, item, score_threshold):
            continue
        image = images[matches.image_ids[matches.image[row]]]
        annotated = {}
        if item != NOTHING:
            annotated = _item(ground_truth["annotations"][item], names[matches.annotation_category[item]])
        suspects.append(
            LabelSuspect(
                kind=SUSPECT_KINDS[table.kind[row]],
                image_id=image["id"],
                file_name=image["file_name"],
                score=float(matches.scores[row]),
                detected_class=names[matches.category[row]],
                box=coco_box(matching.problem.detections[row]),
                iou=float(table.iou[row]),
                **annotated,
            )
        )
    return tuple(suspects)


def _shown(matches: Matches, item: int, score_threshold: float) -> bool:
    return bool(matches.scores[matches.annotation_match[0][item]] >= score_threshold)


def _item(annotation: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"annotation_id": annotation["id"], "annotated_class": name, "annotated_box": coco_box(annotation)}


def overlap(problem: Problem, detections: np.ndarray, items: np.ndarray) -> np.ndarray:
    """IoU of boxes, or of masks, (n, m) of numbers of detections and annotations of one image."""
    from hotcoco import mask as mask_functions

    shape = "bbox" if problem.iou_type == "bbox" else "segmentation"
    first = [problem.detections[row][shape] for row in detections]
    second = [problem.annotations[row][shape] for row in items]
    return mask_functions.iou(first, second, [False] * len(second))


def _rows_by_image(images: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(images, kind="stable")
    places, starts = np.unique(images[order], return_index=True)
    return dict(zip(places.tolist(), np.split(rows[order], starts[1:]), strict=False))
