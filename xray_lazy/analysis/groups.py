"""AP by the size of items, by scanner, and by how much of an item lies under others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.analysis.precision_curves import average_precision, by_falling_score
from xray_lazy.analysis.results import Group
from xray_lazy.evaluation.matching import NOTHING, SIZE_EDGES, SIZE_RANGES, Matches, Matching

COCO_NAMES = {(0, 16): "small", (16, 32): "small", (32, 64): "medium", (64, 96): "medium"}
# Shares of an item; most items of a bag touch none, and beyond a half little of an item can be told from the other.
OCCLUSION_EDGES = (0.0, 0.1, 0.3, 0.5, 1.0)
OCCLUSION_NAMES = ("free", "up to 10 %", "10 to 30 %", "30 to 50 %", "over 50 %")


def by_size(matching: Matching, score_threshold: float) -> tuple[Group, ...]:
    """Sizes that have items. As COCO's APs: of items of other sizes, and detections of other sizes that match
    nothing, none counts."""
    areas = np.array([annotation["area"] for annotation in matching.problem.annotations])
    groups = []
    sizes = zip(pairwise(SIZE_EDGES), SIZE_RANGES, matching.figures_by_size(), strict=True)
    for edges, (low, high), figures in sizes:
        members = ~matching.matches.crowd & (areas >= low) & (areas < high)
        if members.any():
            groups.append(_group(_size_name(edges), matching.matches, members, figures, score_threshold))
    return tuple(groups)


def by_scanner(ground_truth: Mapping[str, Any], matching: Matching, score_threshold: float) -> tuple[Group, ...]:
    """Scanners in alphabetic order, each as if its images were all there are."""
    matches = matching.matches
    scanner_of = {image["id"]: str(image.get("scanner") or "unknown") for image in ground_truth["images"]}
    scanners = np.array([scanner_of[image_id] for image_id in matches.image_ids])
    images = {scanner: np.flatnonzero(scanners == scanner).tolist() for scanner in sorted(set(scanners.tolist()))}
    groups = []
    for scanner, figures in matching.figures_of(images).items():
        members = ~matches.crowd & (scanners[matches.annotation_image] == scanner)
        groups.append(_group(scanner, matches, members, figures, score_threshold, len(images[scanner])))
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
    """What share of each COCO annotation (G,) other items of its image overlap; crowd regions are no items.

    By masks (RLE) where all items of an image have one, else by boxes. An X-ray image adds up what lies upon each
    other: it has no item in front, so two items that overlap are both occluded.
    """
    shares = np.zeros(len(annotations))
    for rows in _items_by_image(annotations):
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
    for category in range(len(matches.class_names)):
        instances = int((members & (matches.annotation_category == category)).sum())
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
    images: int | None = None,
) -> Group:
    match = matches.annotation_match[0][members]
    scores = np.append(matches.scores, -math.inf)  # for NOTHING, the last place
    instances = int(members.sum())
    return Group(
        name=name,
        instances=instances,
        images=len(np.unique(matches.annotation_image[members])) if images is None else images,
        ap=figures[0],
        ap50=figures[1],
        ar=figures[2],
        found=float((scores[match] >= score_threshold).sum() / instances) if instances else math.nan,
    )


def _items_by_image(annotations: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    rows: dict[int | str, list[int]] = {}
    for row, annotation in enumerate(annotations):
        if not annotation["iscrowd"]:
            rows.setdefault(annotation["image_id"], []).append(row)
    yield from rows.values()


def _size_name(edges: tuple[float, float]) -> str:
    low, high = edges
    span = f"over {low:g}" if high == math.inf else f"{low:g} to {high:g}"
    return f"{span} px ({COCO_NAMES.get(edges, 'large')})"
