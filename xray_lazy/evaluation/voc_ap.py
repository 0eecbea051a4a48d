"""AP50 as PASCAL VOC has it, and the X-ray sets that were judged by its code: not the same as COCO's AP50."""

from collections.abc import Sequence

import numpy as np

from xray_lazy.evaluation.screening.bags import BoxesOfImage, box_ious

IOU = 0.5


def voc_precisions(images: Sequence[BoxesOfImage], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """AP50 in 0..1 of each class (K,), by 11 points (VOC 2007) and by all (since 2010); NaN without an item.

    A detection belongs to the item of its class with which it has the highest IoU, if that is above 0.5; the first
    by score is right, each further one wrong, also where another item would be free: COCO would give it that one.
    Crowd regions take the place of VOC's difficult items: what belongs to them does not count.
    """
    from detectron2.evaluation.pascal_voc_evaluation import voc_ap

    scores, of_class, item, ignored = _belongings(images)
    order = np.argsort(-scores, kind="stable")
    of_class, item, ignored = of_class[order], item[order], ignored[order]
    right = np.zeros(len(order), bool)
    known = np.flatnonzero(item >= 0)
    right[known[np.unique(item[known], return_index=True)[1]]] = True
    counts = np.zeros(classes, int)
    for image in images:
        np.add.at(counts, image.item_classes[~image.crowd], 1)
    eleven, all_points = np.full(classes, np.nan), np.full(classes, np.nan)
    for k in np.flatnonzero(counts):
        hits = right[(of_class == k) & ~ignored]
        found = hits.cumsum()
        recall, precision = found / counts[k], found / np.arange(1, len(hits) + 1)
        eleven[k] = voc_ap(recall, precision, use_07_metric=True)
        all_points[k] = voc_ap(recall, precision, use_07_metric=False)
    return eleven, all_points


def _belongings(images: Sequence[BoxesOfImage]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of all detections (D,): score, class, the number of the item that it belongs to or -1, whether that is a crowd
    region."""
    scores, classes, items, ignored = ([np.zeros(0, kind)] for kind in (float, int, int, bool))
    before = 0
    for image in images:
        own = np.full(len(image.boxes), -1)
        on_crowd = np.zeros(len(image.boxes), bool)
        if len(image.boxes) and len(image.items):
            ious = box_ious(image.boxes, image.items, np.zeros(len(image.items), bool))
            ious = np.where(image.classes[:, None] == image.item_classes, ious, -1.0)
            best = ious.argmax(axis=1)
            belongs = ious.max(axis=1) > IOU
            own[belongs] = before + best[belongs]
            on_crowd = belongs & image.crowd[best]
        scores.append(image.scores)
        classes.append(image.classes)
        items.append(own)
        ignored.append(on_crowd)
        before += len(image.items)
    return tuple(map(np.concatenate, (scores, classes, items, ignored)))  # type: ignore[return-value]
