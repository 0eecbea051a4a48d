"""Suspected label errors: detections so sure of themselves that the ground truth may be what is wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xray_lazy.analysis.errors import ErrorTable
from xray_lazy.analysis.results import LabelSuspect
from xray_lazy.data.image_detections import coco_box
from xray_lazy.evaluation.matching import NOTHING, Matches, Matching

# A detection that is found once more tells nothing of the labels, and one that is wrong in place and class little.
KINDS = {"Bkg": "missing", "Cls": "class", "Loc": "location"}


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
    rows = np.flatnonzero(np.isin(table.kind, list(KINDS)) & (matches.scores >= score_threshold))
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
                kind=KINDS[table.kind[row]],
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
