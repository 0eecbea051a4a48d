"""P_D at P_FA of each evaluation: the figures of a screening test without their intervals."""

import functools
import logging
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from detectron2.structures import BoxMode

from xray_lazy.data.bag_names import bag_of_each
from xray_lazy.data.datasets import LEFT_OUT, DetectionDataset
from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.evaluation.screening.bags import BagScores, BoxesOfImage, HitRule, score_bags
from xray_lazy.evaluation.screening.curve import Curve
from xray_lazy.evaluation.screening.marks import Marks, marks_of
from xray_lazy.evaluation.screening.view_fusion import ViewFusion, read_fusion
from xray_lazy.utils.wording import counted

TASK = "screening"  # of its metrics, as `bbox` is one of COCO's

logger = logging.getLogger(__name__)


class BagScreening:
    """P_D at P_FA and P_FA at P_D, in percent, by names such as `P_D@5` and `P_FA@90`; docs/screening.md says of what.

    Args:
        enabled: whether evaluations have these figures.
        hit: when a detection shows an item: `iou`, their boxes overlap enough; `centre`, its centre lies in the item's.
        iou: that is enough.
        group_by: a regular expression in file names; images for which its first group is equal are one bag. Without
            it those with the same `bag` in the COCO file are.
        false_alarms: P_FA in percent at which P_D is told.
        detections: P_D in percent at which P_FA is told.
        per_class: also of each class: `P_D@5-knife`, where bags without a knife are the clean ones.
        view_fusion: a file of `tools/analyze.py fuse-views`, by whose weights the views of a bag alarm; without one a
            bag alarms by the best score of any view.
    """

    def __init__(
        self,
        enabled: bool = True,
        hit: Literal["iou", "centre"] = "iou",
        iou: float = 0.5,
        group_by: str | None = None,
        false_alarms: Sequence[float] = (1, 2, 5, 10),
        detections: Sequence[float] = (90, 95),
        per_class: bool = False,
        view_fusion: str | None = None,
    ):
        self.enabled, self.group_by, self.per_class = enabled, group_by, per_class
        self.rule = HitRule(hit, iou)
        self.false_alarms, self.detections = tuple(false_alarms), tuple(detections)
        self.view_fusion = view_fusion
        self._has_warned = self._has_told_unknown = False

    def check(self, dataset: DetectionDataset) -> None:
        """Tell before the model runs what does not fit a data set.

        Raises:
            UserError: as `keys` and `fusion`.
        """
        self.keys(dataset)
        self.fusion(dataset)

    def fusion(self, dataset: DetectionDataset) -> ViewFusion | None:
        """The weights of `view_fusion` for the classes of a data set.

        Raises:
            UserError: the file is not there, is another, or is of other classes.
        """
        if not self.view_fusion:
            return None
        return ViewFusion.from_json(self._weights, dataset.class_names, self.view_fusion)

    @functools.cached_property
    def _weights(self) -> Mapping[str, Any]:
        """Of the file as it was at the start: a training must not end because it has gone since."""
        return read_fusion(self.view_fusion or "")

    def keys(self, dataset: DetectionDataset) -> list:
        """The bag of each image.

        Raises:
            UserError: `group_by` is no regular expression, or does not fit all file names.
        """
        return bag_of_each(dataset, "image_id", self.group_by, "dataloader.evaluator.screening.group_by=")

    def score(
        self, dataset: DetectionDataset, found: Mapping[int | str, ImageDetections], max_detections: int
    ) -> tuple[BagScores, Marks]:
        """Bags and marks of a set, by the best detections per image and class, which COCO's metrics count."""
        marks: list[Marks] = []
        keys = self.keys(dataset)
        unknown = _unknown_bags(dataset, keys)
        if unknown and not self._has_told_unknown:
            self._has_told_unknown = True
            logger.warning(
                "%s of %s left out of screening/...: none of the annotations of an image there can be used, so it is "
                "not known what it holds; `tools/dataset.py check` tells what is wrong with them",
                counted(len(unknown), "bag"),
                dataset.name,
            )

        def images() -> Iterator[BoxesOfImage]:
            known = (one for one in _images(dataset, found, keys, max_detections) if one.bag not in unknown)
            fusion = self.fusion(dataset)
            for image in fusion.fuse(list(known)) if fusion else known:
                marks.append(marks_of(image))
                yield image

        bags = score_bags(images(), len(dataset.class_names), self.rule)
        return bags, Marks.joined(marks)

    def figures(self, bags: BagScores, class_names: Sequence[str]) -> dict[str, float]:
        """In percent; NaN where there are no clean bags, or none with a threat."""
        figures = self._of_curve(Curve.of(*bags.of_all), "")
        for k, name in enumerate(class_names if self.per_class else ()):
            curve = Curve.of(bags.shows[:, k], bags.alarm[:, k], bags.hit[:, k])
            figures |= self._of_curve(curve, f"-{name}")
        return figures

    def metric_names(self, class_names: Sequence[str]) -> list[str]:
        """Of all `figures`."""
        suffixes = ["", *(f"-{name}" for name in class_names if self.per_class)]
        return [name + suffix for suffix in suffixes for name in self._names()]

    def missing_metrics(self, datasets: Sequence[DetectionDataset]) -> dict[str, str]:
        """Of `metric_names`, those that the bags of these sets together give no value, and what they lack."""
        names = datasets[0].class_names
        shown = [classes for dataset in datasets for classes in self._classes_in_bags(dataset)]
        missing = {"": _lack(sum(map(bool, shown)), len(shown), "a threat")}
        if self.per_class:
            missing |= {f"-{one}": _lack(sum(k in of for of in shown), len(shown), one) for k, one in enumerate(names)}
        sets = " and ".join(dataset.name for dataset in datasets)
        return {
            name + suffix: f"{reason} in {sets}"
            for suffix, reason in missing.items()
            if reason
            for name in self._names()
        }

    def _classes_in_bags(self, dataset: DetectionDataset) -> list[set[int]]:
        """The classes in each bag of which it is known what it holds."""
        keys = self.keys(dataset)
        shown: dict[Hashable, set[int]] = {key: set() for key in keys}
        for record, key in zip(dataset, keys, strict=True):
            shown[key].update(one["category_id"] for one in record["annotations"] if not one.get("iscrowd"))
        unknown = _unknown_bags(dataset, keys)
        return [classes for key, classes in shown.items() if key not in unknown]

    def warn_of_gaps(self, bags: BagScores) -> None:
        """Say once why there are no figures over all classes."""
        missing = _lack(int(bags.is_threat.sum()), len(bags.bags), "a threat")
        if missing and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s: there is no P_D at a P_FA (screening/P_D@...); docs/screening.md says how a set of clean bags is "
                "evaluated with others",
                missing,
            )

    def _names(self) -> list[str]:
        return [*(f"P_D@{rate:g}" for rate in self.false_alarms), *(f"P_FA@{rate:g}" for rate in self.detections)]

    def _of_curve(self, curve: Curve, suffix: str) -> dict[str, float]:
        values = [curve.detection_at(rate / 100) for rate in self.false_alarms]
        values += [curve.false_alarms_at(rate / 100) for rate in self.detections]
        if not curve.threats:
            values = [math.nan] * len(values)
        return {name + suffix: 100 * value for name, value in zip(self._names(), values, strict=True)}


def _lack(threats: int, bags: int, what: str) -> str:
    """Why there is no P_D at a P_FA; empty where there is."""
    return "" if 0 < threats < bags else f"{'each bag' if threats else 'no bag'} has {what}"


def join_bags(parts: Sequence[BagScores]) -> BagScores:
    """The bags of several sets with the same classes; those of two sets are never one bag."""
    return BagScores(
        [(number, bag) for number, part in enumerate(parts) for bag in part.bags],
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("shows", "alarm", "hit", "hit_of_any")),
    )


def _unknown_bags(dataset: DetectionDataset, keys: Sequence) -> set:
    """Bags that show nothing because annotations were left out as they were read: it is not known what is in them."""
    pairs = list(zip(dataset, keys, strict=True))
    lost = {key for record, key in pairs if record.get(LEFT_OUT) and not record["annotations"]}
    return lost - {key for record, key in pairs if record["annotations"]}


def _images(
    dataset: DetectionDataset, found: Mapping[int | str, ImageDetections], keys: Sequence, max_detections: int
) -> Iterator[BoxesOfImage]:
    for record, key in zip(dataset, keys, strict=True):
        there, seen = record["annotations"], found.get(record["image_id"])
        items = [BoxMode.convert(list(one["bbox"]), one["bbox_mode"], BoxMode.XYWH_ABS) for one in there]
        boxes = np.zeros((0, 4)) if seen is None else seen.xywh.astype(float)
        classes = np.zeros(0, int) if seen is None else seen.classes.astype(int)
        scores = np.zeros(0) if seen is None else seen.scores.astype(float)
        counted = _best(classes, scores, max_detections)
        yield BoxesOfImage(
            key,
            np.array(items, float).reshape(-1, 4),
            np.array([one["category_id"] for one in there], int),
            np.array([bool(one.get("iscrowd")) for one in there], bool),
            boxes[counted],
            classes[counted],
            scores[counted],
            (record["width"], record["height"]),
        )


def _best(classes: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` best of each class, in their order."""
    if len(scores) <= count:
        return np.arange(len(scores))
    order = np.argsort(-scores, kind="stable")
    chosen = [order[classes[order] == one][:count] for one in np.unique(classes)]
    return np.sort(np.concatenate(chosen))
