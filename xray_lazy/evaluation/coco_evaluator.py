"""Collect a model's detections over a data set, on any number of processes, and give their COCO metrics."""

import csv
import io
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.evaluation.coco_metrics import (
    CategoryMetrics,
    IouType,
    Metrics,
    Problem,
    coco_metrics,
    has_hotcoco,
    image_positions,
    summary_names,
)
from xray_lazy.evaluation.detections import CocoResults, gather_detections
from xray_lazy.evaluation.ground_truth import GroundTruth, check_masks, coco_content
from xray_lazy.evaluation.missing_metrics import missing_metrics
from xray_lazy.evaluation.results_table import format_results
from xray_lazy.evaluation.screening.bags import BagScores
from xray_lazy.evaluation.screening.in_training import TASK, BagScreening, join_bags
from xray_lazy.evaluation.screening.marks import Marks
from xray_lazy.run_folder import CATEGORIES, METRICS, PREDICTIONS
from xray_lazy.utils.atomic_file import write_json, write_text
from xray_lazy.utils.wording import counted

if TYPE_CHECKING:
    from xray_lazy.data.datasets import DetectionDataset

logger = logging.getLogger(__name__)


class CocoEvaluator(DatasetEvaluator):
    """Box and mask AP and AR of detectron2 outputs on one data set, and what a screening point asks.

    Args:
        dataset: detectron2 dataset dicts with the data set's names; their annotations are the ground truth.
        max_detections: how many detections count per image and class, the best first.
        screening: what is told of bags, by the same detections; None for nothing.

    Images without a prediction count as images without detections.

    Attributes:
        takes_encoded_masks: `process` takes `EncodedMasks` as `pred_masks` as well as bitmaps (N, H, W).
    """

    takes_encoded_masks = True

    def __init__(self, dataset: "DetectionDataset", max_detections: int = 100, screening: BagScreening | None = None):
        self.dataset = dataset
        self.max_detections = max_detections
        self.screening = screening if screening and screening.enabled else None
        if self.screening:
            self.screening.check(dataset)
        if dataset.has_masks:
            check_masks(dataset)
        self._sizes = {record["image_id"]: (record["height"], record["width"]) for record in dataset}
        self._share: set[int | str] = set()
        self._truths: dict[str, GroundTruth] = {}  # of the share
        # of the last `evaluate()`, on the main process, where there is a screening
        self.bags: BagScores | None = None
        self.marks: Marks | None = None
        self.reset()

    def reset(self) -> None:
        self._images: dict[int | str, ImageDetections] = {}
        self._not_finite = 0
        self._predictions = CocoResults({}, self.dataset.category_ids)
        self._metrics: dict[str, Metrics] = {}
        self._screened: dict[str, float] = {}

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Take in one batch: dataset dicts, and the model's `{"instances": Instances}` for each.

        Raises:
            ValueError: an image is not of the data set, or was predicted at another size than its own.
        """
        for record, output in zip(inputs, outputs, strict=True):
            image_id, instances = record["image_id"], output["instances"]
            if image_id not in self._sizes:
                raise ValueError(f"image {image_id} is not in data set {self.dataset.name}")
            if tuple(instances.image_size) != self._sizes[image_id]:
                raise ValueError(
                    f"image {image_id} of data set {self.dataset.name} is (height, width) {self._sizes[image_id]}, "
                    f"but was predicted at {tuple(instances.image_size)}"
                )
            finite = torch.isfinite(instances.scores) & torch.isfinite(instances.pred_boxes.tensor).all(dim=1)
            if not finite.all():
                self._not_finite += int((~finite).sum())
                instances = instances[finite]
            self._images[image_id] = ImageDetections.of(instances)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """The metrics of everything processed on all processes, which must all call this.

        Returns:
            `{"bbox": {"AP": ..., "AP50": ..., "AP-<class>": ..., ...}, "segm": {...}}` in percent, NaN where there is
            no instance; `segm` only where both the data set and the predictions have masks; `screening` where that is
            asked for. Empty on all processes but the main one.
        """
        reports = comm.all_gather((list(self._images), self._not_finite, self._have_masks()))
        share = self._shares([image_ids for image_ids, _, _ in reports])[comm.get_rank()]
        own = {image_id: found for image_id, found in self._images.items() if image_id in share}
        has_masks = self.dataset.has_masks and any(masks for _, _, masks in reports)
        iou_types: list[IouType] = ["bbox", "segm"] if has_masks else ["bbox"]
        matches = {iou_type: comm.gather(part) for iou_type, part in self._matched(own, share, iou_types).items()}
        gathered = gather_detections(own)
        if not comm.is_main_process():
            return OrderedDict()
        images = {image_id: gathered[image_id] for image_id in self._sizes if image_id in gathered}
        self._warn_of_gaps(images, sum(not_finite for _, not_finite, _ in reports))
        self._predictions = CocoResults(images, self.dataset.category_ids)
        self._metrics = {
            iou_type: self._truths[iou_type].metrics(matches[iou_type])
            if has_hotcoco()
            else coco_metrics(self.ground_truth, list(self._predictions), iou_type, self.max_detections)
            for iou_type in iou_types
        }
        results = OrderedDict((iou_type, _named(metrics)) for iou_type, metrics in self._metrics.items())
        if self.screening:
            self.bags, self.marks = self.screening.score(self.dataset, images, self.max_detections)
            results[TASK] = self._screened = self.screening.figures(self.bags, self.dataset.class_names)
        instances = {category.name: category.instances for category in self._metrics["bbox"].categories}
        logger.info("Evaluation on %s:\n%s", self.dataset.name, format_results(results, instances))
        return results

    def save(self, folder: str | os.PathLike) -> None:
        """Write the last `evaluate()` into `folder`; does nothing on processes that are not the main one.

        metrics.json (null where there is no instance), per_category.csv, and predictions.json with COCO results under
        the data set's own image and category ids.
        """
        if not self._metrics:
            return
        folder = Path(folder)
        metrics = {
            "dataset": self.dataset.name,
            "pictures": len(self.dataset),
            "detections": len(self._predictions),
            "max_detections": self.max_detections,
        }
        values_by_task = {iou_type: _named(found) for iou_type, found in self._metrics.items()}
        if self._screened:
            values_by_task[TASK] = self._screened
        for task, values in values_by_task.items():
            metrics[task] = {name: None if math.isnan(value) else value for name, value in values.items()}
        self._predictions.write(folder / PREDICTIONS)
        write_text(folder / CATEGORIES, _category_table(self._metrics))
        write_json(folder / METRICS, metrics, indent=2)

    @property
    def predictions(self) -> Sequence[dict]:
        """The detections of the last `evaluate()` as COCO results, on the main process; forgotten by `reset()`."""
        return self._predictions

    @property
    def metrics(self) -> Mapping[str, Metrics]:
        """The metrics of the last `evaluate()`: `bbox` and, where there are masks, `segm`; as `predictions`."""
        return self._metrics

    def over_sets(self, evaluators: Sequence["CocoEvaluator"]) -> dict[str, dict[str, float]]:
        """The screening of the bags of several sets together: those of one may have threats, those of another none."""
        if not self.screening:
            return {}
        bags = join_bags([one.bags for one in evaluators if one.bags])
        self.screening.warn_of_gaps(bags)
        return {TASK: self.screening.figures(bags, self.dataset.class_names)}

    def metric_names(self) -> list[str]:
        """All that there can be, such as `bbox/AP`."""
        screened = self.screening.metric_names(self.dataset.class_names) if self.screening else ()
        return [*self._coco_names(), *(f"{TASK}/{name}" for name in screened)]

    def missing_metrics(self, evaluators: Sequence["CocoEvaluator"]) -> dict[str, str]:
        """What the sets of these evaluators, together, lack for a value of a metric, by its name."""
        datasets = [one.dataset for one in evaluators]
        lacks = self.screening.missing_metrics(datasets) if self.screening else {}
        coco = missing_metrics(datasets, self._coco_names())
        return coco | {f"{TASK}/{name}": reason for name, reason in lacks.items()}

    @cached_property
    def ground_truth(self) -> dict:
        """The data set as the content of a COCO file, with masks as compressed RLE."""
        return coco_content(self.dataset, self.dataset)

    def _coco_names(self) -> list[str]:
        figures = [*summary_names(self.max_detections), *(f"AP-{name}" for name in self.dataset.class_names)]
        return [f"{task}/{name}" for task in ("bbox", "segm") for name in figures]

    def _have_masks(self) -> bool:
        return any(found.masks is not None for found in self._images.values())

    def _shares(self, processed: Sequence[Sequence[int | str]]) -> list[set[int | str]]:
        """Which images each process matches: those that it has, but for those of a process before it.

        Samplers that give each process as many images may give an image twice: it counts once. The first process
        also takes those that nobody has.
        """
        shares: list[set[int | str]] = []
        left = set(self._sizes)
        for image_ids in processed:
            shares.append(left.intersection(image_ids))
            left -= shares[-1]
        shares[0] |= left
        return shares

    def _matched(self, own: Mapping[int | str, ImageDetections], share: set, iou_types: list[IouType]) -> dict:
        """The `MatchedPart`s of this process by what is matched; empty without hotcoco."""
        if not has_hotcoco():
            return {}
        if share != self._share or not self._truths.keys() >= set(iou_types):
            is_whole = len(share) == len(self._sizes)
            records = [] if is_whole else [record for record in self.dataset if record["image_id"] in share]
            truth = self.ground_truth if is_whole else coco_content(self.dataset, records)
            positions = image_positions(self._sizes)
            self._share = share
            self._truths = {
                iou_type: GroundTruth(Problem.build(truth, [], iou_type, self.max_detections, positions))
                for iou_type in iou_types
            }
        return {iou_type: self._truths[iou_type].match(own, self.dataset.category_ids) for iou_type in iou_types}

    def _warn_of_gaps(self, images: Mapping, not_finite: int) -> None:
        missing = len(self._sizes) - len(images)
        if missing:
            logger.warning(
                "no predictions of %d of %s, which count as empty", missing, counted(len(self._sizes), "image")
            )
        if not_finite:
            logger.warning("left out %s with a score or box that is not finite", counted(not_finite, "detection"))


def _named(metrics: Metrics) -> dict[str, float]:
    return metrics.summary | {f"AP-{category.name}": category.ap for category in metrics.categories}


def _category_table(metrics: Mapping[str, Metrics]) -> str:
    """One line per class as CSV; empty fields where there is no instance."""
    stream = io.StringIO()
    figures = ("ap", "ap50", "ap75", "ar")
    writer = csv.writer(stream, lineterminator="\n")
    headers = [f"{iou_type}/{figure.upper()}" for iou_type in metrics for figure in figures]
    writer.writerow(["class", "category_id", "instances", "images", *headers])
    for row in zip(*(found.categories for found in metrics.values()), strict=True):
        category: CategoryMetrics = row[0]
        values = [getattr(cell, figure) for cell in row for figure in figures]
        cells = ["" if math.isnan(value) else f"{value:.4f}" for value in values]
        writer.writerow([category.name, category.id, category.instances, category.images, *cells])
    return stream.getvalue()
