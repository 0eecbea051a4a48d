"""AP by the size of items, by scanner, and by how much of an item lies under others."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.analysis.matches import NOTHING, Matches, average_precision, by_falling_score
from xray_lazy.analysis.results import Group
from xray_lazy.evaluation.coco_metrics import hotcoco_evaluation

# Sides of a square of an item's area; those of 32 and 96 are COCO's, which has no others.
SIZE_EDGES = (0, 16, 32, 64, 96, 192, 384, math.inf)
COCO_NAMES = {(0, 16): "small", (16, 32): "small", (32, 64): "medium", (64, 96): "medium"}
# Shares of an item; most items of a bag touch none, and beyond a half little of an item can be told from the other.
OCCLUSION_EDGES = (0.0, 0.1, 0.3, 0.5, 1.0)
OCCLUSION_NAMES = ("free", "up to 10 %", "10 to 30 %", "30 to 50 %", "over 50 %")


def by_size(matches: Matches, score_threshold: float) -> tuple[Group, ...]:
    """Sizes that have items. As COCO's APs: of items of other sizes, and detections of other sizes that match
    nothing, none counts."""
    problem = matches.problem
    bins = list(pairwise(edge**2 if edge < math.inf else 1e10 for edge in SIZE_EDGES))
    evaluation = hotcoco_evaluation(problem)
    # COCO counts an item on the edge of two sizes in both
    evaluation.params.area_rng = [[0, 1e10], *([low, np.nextafter(high, 0)] for low, high in bins)]
    evaluation.params.area_rng_lbl = ["all", *(str(index) for index in range(len(bins)))]
    evaluation.evaluate()
    evaluation.accumulate()
    areas = np.array([annotation["area"] for annotation in problem.annotations])
    groups = []
    for index, ((low, high), edges) in enumerate(zip(bins, pairwise(SIZE_EDGES), strict=True), 1):
        members = ~matches.crowd & (areas >= low) & (areas < high)
        if members.any():
            precision = evaluation.eval["precision"][:, :, :, index, -1]
            recall = evaluation.eval["recall"][:, :, index, -1]
            name = _size_name(edges)
            figures = _percent(precision), _percent(precision[0]), _percent(recall)
            groups.append(_group(name, matches, members, figures, score_threshold))
    return tuple(groups)


def by_scanner(
    ground_truth: Mapping[str, Any], matches: Matches, score_threshold: float, evaluate: Callable
) -> tuple[Group, ...]:
    """Scanners in alphabetic order, each as if its pictures were all there are.

    Args:
        evaluate: gives COCO's `Metrics` for some of the pictures, by their ids.
    """
    scanner_of = {image["id"]: str(image.get("scanner") or "unknown") for image in ground_truth["images"]}
    scanners = np.array([scanner_of[image_id] for image_id in matches.problem.image_ids])
    groups = []
    for scanner in sorted(set(scanners.tolist())):
        ids = {image_id for image_id, name in zip(matches.problem.image_ids, scanners, strict=True) if name == scanner}
        members = ~matches.crowd & (scanners[matches.item_picture] == scanner)
        summary = evaluate(ids).summary
        figures = summary["AP"], summary["AP50"], summary[f"AR{matches.problem.detection_limits[-1]}"]
        groups.append(_group(scanner, matches, members, figures, score_threshold, len(ids)))
    return tuple(groups)


def by_occlusion(matches: Matches, shares: np.ndarray, score_threshold: float) -> tuple[Group, ...]:
    """Degrees of occlusion that have items.

    Detections that match an item of another degree don't count; those that match nothing count in each degree, since
    they lie under nothing. So degrees with few items have a lower AP than all items together, and AR tells more.

    Args:
        shares: (G,) of `occlusion`.
    """
    degrees = np.searchsorted(OCCLUSION_EDGES[:-1], shares, side="left")
    groups = []
    for degree, name in enumerate(OCCLUSION_NAMES):
        members = ~matches.crowd & (degrees == degree)
        if members.any():
            groups.append(_group(name, matches, members, _figures(matches, members), score_threshold))
    return tuple(groups)


def occlusion(annotations: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """What share of each COCO annotation (G,) other items of its picture overlap; crowd regions are no items.

    By masks (RLE) where all items of a picture have one, else by boxes. An X-ray picture adds up what lies upon each
    other: it has no item in front, so two items that overlap are both occluded.
    """
    shares = np.zeros(len(annotations))
    for rows in _items_by_picture(annotations):
        items = [annotations[row] for row in rows]
        masks = [item.get("segmentation") for item in items]
        if all(masks):
            shares[rows] = _mask_occlusion(masks)
        else:
            shares[rows] = _box_occlusion(np.array([item["bbox"] for item in items]))
    return shares


def _mask_occlusion(masks: Sequence[dict]) -> list[float]:
    shares = []
    for place, mask in enumerate(masks):
        area = float(mask_util.area(mask))
        others = [other for index, other in enumerate(masks) if index != place]
        common = mask_util.area(mask_util.merge([mask, mask_util.merge(others)], intersect=True)) if others else 0
        shares.append(float(common) / area if area else 0.0)
    return shares


def _box_occlusion(boxes: np.ndarray) -> list[float]:
    """Of xywh boxes (n, 4), by the exact area of what the others cover."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    xs, ys = np.unique(corners[:, 0::2]), np.unique(corners[:, 1::2])
    cells = np.diff(ys)[:, None] * np.diff(xs)[None, :]
    # between the edges of all boxes each cell is inside or outside of a box as a whole
    inside = np.stack(
        [
            ((ys[:-1] >= y0) & (ys[1:] <= y1))[:, None] & ((xs[:-1] >= x0) & (xs[1:] <= x1))[None, :]
            for x0, y0, x1, y1 in corners
        ]
    )
    shared = inside.sum(axis=0) > 1
    areas = (cells * inside).sum(axis=(1, 2))
    common = (cells * (inside & shared)).sum(axis=(1, 2))
    return np.divide(common, areas, out=np.zeros(len(boxes)), where=areas > 0).tolist()


def _figures(matches: Matches, members: np.ndarray) -> tuple[float, float, float]:
    """AP, AP50 and AR in percent of some items, as the mean over the classes that have one."""
    ap, recall = [], []
    for category in range(matches.classes):
        instances = int((members & (matches.item_category == category)).sum())
        if instances:
            rows = by_falling_score(matches, category)
            match = matches.match[:, rows]
            right = matches.right[:, rows] & (match != NOTHING) & members[match]
            once, wrong = np.ones((1, len(rows)), int), matches.wrong[:, rows]
            ap.append([average_precision(*at, once, np.array([instances]))[0] for at in zip(right, wrong, strict=True)])
            recall.append(right.sum(axis=1) / instances)
    return 100 * float(np.mean(ap)), 100 * float(np.mean(ap, axis=0)[0]), 100 * float(np.mean(recall))


def _group(
    name: str,
    matches: Matches,
    members: np.ndarray,
    figures: tuple[float, float, float],
    score_threshold: float,
    pictures: int | None = None,
) -> Group:
    match = matches.item_match[0][members]
    scores = np.append(matches.scores, -math.inf)  # what NOTHING, the last place, stands for
    instances = int(members.sum())
    return Group(
        name=name,
        instances=instances,
        pictures=len(np.unique(matches.item_picture[members])) if pictures is None else pictures,
        ap=figures[0],
        ap50=figures[1],
        ar=figures[2],
        found=float((scores[match] >= score_threshold).sum() / instances) if instances else math.nan,
    )


def _items_by_picture(annotations: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    rows: dict[int | str, list[int]] = {}
    for row, annotation in enumerate(annotations):
        if not annotation["iscrowd"]:
            rows.setdefault(annotation["image_id"], []).append(row)
    yield from rows.values()


def _size_name(edges: tuple[float, float]) -> str:
    low, high = edges
    span = f"over {low:g}" if high == math.inf else f"{low:g} to {high:g}"
    return f"{span} px ({COCO_NAMES.get(edges, 'large')})"


def _percent(values: np.ndarray) -> float:
    present = values[values > -1]
    return 100 * float(present.mean()) if present.size else math.nan
