"""Collect a model's detections over a data set, on any number of processes, and give their COCO metrics."""

import csv
import io
import itertools
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from pycocotools import mask as mask_util

from xray_lazy.atomic_file import write_json, write_text
from xray_lazy.evaluation.coco_metrics import CategoryMetrics, Metrics, coco_metrics, encode_segmentation
from xray_lazy.evaluation.results_table import format_results

if TYPE_CHECKING:
    from xray_lazy.data.datasets import DetectionDataset

# So many masks are unpacked at a time: a hundred of 1920x1080 would be 200 MB.
MASKS_AT_ONCE = 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureDetections:
    """The detections of one picture, small enough to keep for a whole data set.

    boxes: (N, 4) xywh pixels; scores, classes: (N,); masks: N compressed RLEs, or None for a model without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: list[dict] | None


class CocoEvaluator(DatasetEvaluator):
    """Box and mask AP and AR of detectron2 outputs on one data set.

    Args:
        dataset: detectron2 dataset dicts with the data set's names; their annotations are the ground truth.
        max_detections: how many detections count per picture and class, the best first.

    Pictures without a prediction count as pictures without detections.
    """

    def __init__(self, dataset: "DetectionDataset", max_detections: int = 100):
        self.dataset = dataset
        self.max_detections = max_detections
        self._sizes = {record["image_id"]: (record["height"], record["width"]) for record in dataset}
        self.reset()

    def reset(self) -> None:
        self._pictures: dict[int | str, PictureDetections] = {}
        self._not_finite = 0
        self._predictions: list[dict] = []
        self._metrics: dict[str, Metrics] = {}

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Take in one batch: dataset dicts, and the model's `{"instances": Instances}` for each.

        Raises:
            ValueError: a picture is not of the data set, or was predicted at another size than its own.
        """
        for record, output in zip(inputs, outputs, strict=True):
            image_id, instances = record["image_id"], output["instances"]
            if image_id not in self._sizes:
                raise ValueError(f"picture {image_id} is not in data set {self.dataset.name}")
            if tuple(instances.image_size) != self._sizes[image_id]:
                raise ValueError(
                    f"picture {image_id} of data set {self.dataset.name} is (height, width) {self._sizes[image_id]}, "
                    f"but was predicted at {tuple(instances.image_size)}"
                )
            finite = torch.isfinite(instances.scores) & torch.isfinite(instances.pred_boxes.tensor).all(dim=1)
            if not finite.all():
                self._not_finite += int((~finite).sum())
                instances = instances[finite]
            self._pictures[image_id] = compact_detections(instances)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """The metrics of everything processed on all processes, which must all call this.

        Returns:
            `{"bbox": {"AP": ..., "AP50": ..., "AP-<class>": ..., ...}, "segm": {...}}` in percent, NaN where there is
            no instance; `segm` only where both the data set and the predictions have masks. Empty on all processes
            but the main one.
        """
        parts = comm.gather((self._pictures, self._not_finite))
        if not comm.is_main_process():
            return OrderedDict()
        # Samplers that give each process as many pictures may give a picture twice: it counts once.
        pictures = {image_id: found for part, _ in reversed(parts) for image_id, found in part.items()}
        self._warn_of_gaps(pictures, sum(count for _, count in parts))
        self._predictions = self._to_coco(pictures)
        has_masks = self.dataset.has_masks and any(found.masks is not None for found in pictures.values())
        self._metrics = {
            iou_type: coco_metrics(self.ground_truth, self._predictions, iou_type, self.max_detections)
            for iou_type in (["bbox", "segm"] if has_masks else ["bbox"])
        }
        results = OrderedDict((iou_type, _named(metrics)) for iou_type, metrics in self._metrics.items())
        instances = {category.name: category.instances for category in self._metrics["bbox"].categories}
        logger.info("Evaluation on %s:\n%s", self.dataset.name, format_results(results, instances))
        return results

    def save(self, folder: str | os.PathLike) -> None:
        """Write the last `evaluate()` into `folder`; does nothing on processes that are not the main one.

        metrics.json (null where there is no instance), per_category.csv, and predictions.json with COCO results under
        the data set's own picture and category ids.
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
        for iou_type, found in self._metrics.items():
            values = _named(found)
            metrics[iou_type] = {name: None if math.isnan(value) else value for name, value in values.items()}
        write_json(folder / "predictions.json", self._predictions)
        write_text(folder / "per_category.csv", _category_table(self._metrics))
        write_json(folder / "metrics.json", metrics, indent=2)

    @property
    def predictions(self) -> list[dict]:
        """The detections of the last `evaluate()` as COCO results, on the main process; forgotten by `reset()`."""
        return self._predictions

    @property
    def metrics(self) -> Mapping[str, Metrics]:
        """The metrics of the last `evaluate()`: `bbox` and, where there are masks, `segm`; as `predictions`."""
        return self._metrics

    @cached_property
    def ground_truth(self) -> dict:
        """The data set as the content of a COCO file, with masks as compressed RLE."""
        annotation_ids = itertools.count(1)
        annotations = [
            {"id": next(annotation_ids), "image_id": record["image_id"], **self._annotation(annotation, record)}
            for record in self.dataset
            for annotation in record["annotations"]
        ]
        images = [
            {"id": r["image_id"], "width": r["width"], "height": r["height"], "file_name": r["file_name"]}
            for r in self.dataset
        ]
        names = zip(self.dataset.category_ids, self.dataset.class_names, strict=True)
        categories = [{"id": category_id, "name": name} for category_id, name in names]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _annotation(self, annotation: Mapping, record: Mapping) -> dict:
        result = {
            "category_id": self.dataset.category_ids[annotation["category_id"]],
            "bbox": list(BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)),
            "iscrowd": annotation.get("iscrowd", 0),
        }
        if annotation.get("area") is not None:
            result["area"] = annotation["area"]
        mask = encode_segmentation(annotation.get("segmentation"), record["height"], record["width"])
        return result if mask is None else {**result, "segmentation": mask}

    def _to_coco(self, pictures: Mapping[int | str, PictureDetections]) -> list[dict]:
        results = []
        for image_id in self._sizes:
            found = pictures.get(image_id)
            for index in range(len(found.scores) if found else 0):
                result = {
                    "image_id": image_id,
                    "category_id": self.dataset.category_ids[found.classes[index]],
                    "bbox": found.boxes[index].tolist(),
                    "score": float(found.scores[index]),
                }
                if found.masks is not None:
                    result["segmentation"] = found.masks[index]
                results.append(result)
        return results

    def _warn_of_gaps(self, pictures: Mapping, not_finite: int) -> None:
        missing = len(self._sizes) - len(pictures)
        if missing:
            logger.warning("%d of %d pictures have no predictions and count as empty", missing, len(self._sizes))
        if not_finite:
            logger.warning("%d detections with a score or box that is not finite were left out", not_finite)


def compact_detections(instances: Instances) -> PictureDetections:
    """detectron2 Instances on any device as small arrays on the CPU; `pred_masks` are (N, H, W) bool."""
    boxes = BoxMode.convert(instances.pred_boxes.tensor.detach().cpu().float(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    masks = None
    if instances.has("pred_masks"):
        masks = [mask for part in instances.pred_masks.split(MASKS_AT_ONCE) for mask in encode_masks(part)]
    return PictureDetections(
        boxes=boxes.numpy(),
        scores=instances.scores.detach().cpu().float().numpy(),
        classes=instances.pred_classes.cpu().numpy(),
        masks=masks,
    )


def encode_masks(masks: torch.Tensor) -> list[dict]:
    """Bool masks (N, H, W) as N compressed RLEs with text `counts`, as JSON has them."""
    # RLE runs down the columns: transposing before the copy to the CPU gives the Fortran order without another copy.
    columns = masks.bool().mT.contiguous().cpu().numpy().view(np.uint8)
    encoded = mask_util.encode(columns.T)
    return [{"size": list(mask["size"]), "counts": mask["counts"].decode("ascii")} for mask in encoded]


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
