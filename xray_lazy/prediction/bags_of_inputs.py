"""Bags in place of images: what is found in all views of one, by learned weights or as it is, and a table of bags."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xray_lazy.data.bag_names import groups_of
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import BoxesOfImage
from xray_lazy.evaluation.screening.view_fusion import ViewFusion
from xray_lazy.prediction.detection_files import Found
from xray_lazy.prediction.input_files import InputFile
from xray_lazy.prediction.predictor import Prediction, Predictor
from xray_lazy.utils.atomic_file import write_text

BAGS = "bags.csv"
HEADER = ("bag", "pictures", "alarm", "class", "score", "picture")


def bags_of_inputs(images: Sequence[InputFile], group_by: str | None) -> dict[InputFile, str]:
    """The bag of each image: what the first group of `group_by` takes of its name, else the one that its COCO file has.

    Empty where no two images are of one.

    Raises:
        UserError: the expression does not fit.
    """
    if group_by:
        paths = [str(image.name) for image in images]
        bags = groups_of([image.name.name for image in images], group_by, paths=paths)
    else:
        bags = [image.bag or str(image.name) for image in images]
    return dict(zip(images, bags, strict=True)) if group_by or len(set(bags)) < len(bags) else {}


@dataclass(frozen=True)
class FusedThresholds:
    """Weights for the views of bags, and the thresholds (K,) of the fused scores."""

    fusion: ViewFusion
    thresholds: Sequence[float]

    def __call__(self, bags: Iterable[str], predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """Predictions of all that the model finds, the views of a bag one after the other, as those with fused scores
        that are not below the thresholds."""
        for _, views in itertools.groupby(zip(bags, predictions, strict=True), key=lambda one: one[0]):
            yield from self._fused([prediction for _, prediction in views])

    def _fused(self, views: list[Prediction]) -> list[Prediction]:
        read = [view for view in views if view.problem is None]
        fused = iter(self.fusion.fuse(list(map(_boxes, read))))
        return [self._kept(view, next(fused).scores) if view.problem is None else view for view in views]

    def _kept(self, view: Prediction, scores: np.ndarray) -> Prediction:
        instances = view.instances
        limits = torch.tensor(self.thresholds, dtype=torch.float64)[instances.pred_classes.cpu()]
        fused = torch.from_numpy(scores)
        order = torch.argsort(fused, descending=True, stable=True)
        order = order[(fused >= limits)[order]]
        instances.scores = fused.to(instances.scores)
        return Prediction(view.source, view.image, instances[order.to(instances.scores.device)])


def fuse_bags(
    weights: Mapping[str, Any], path: str, predictor: Predictor, images: list[InputFile], bags: Mapping[InputFile, str]
) -> FusedThresholds:
    """Take the predictor's thresholds as those of fused scores: it gives all that it finds then. Sorts the images, so
    that the views of a bag come one after the other.

    Args:
        weights: of an operating point, whose file is `path`.

    Raises:
        UserError: the weights are none or of other classes, or no image is known to be of a bag.
    """
    if not bags:
        raise UserError(
            f"{path} weighs the views of bags, and no two of the images are known to be of one bag",
            "tell by --group-by '^(.+)_[^_]+$', or give a COCO file that names bags",
        )
    thresholds = np.asarray(predictor.score_threshold, float).tolist()
    fused = FusedThresholds(ViewFusion.from_json(weights, predictor.class_names, path), thresholds)
    predictor.score_threshold = 0.0
    first = {bag: place for place, bag in reversed([*enumerate(bags.values())])}
    images.sort(key=lambda image: first[bags[image]])
    return fused


def write_bags(folder: Path, found: Sequence[Found], bags: Mapping[str, str], class_names: Sequence[str]) -> Path:
    """A line for each bag: whether it alarms, which is by anything that is left in a view, and its best detection.

    Args:
        bags: by the images' names.
    """
    views: dict[str, list[Found]] = {}
    for one in found:
        views.setdefault(bags[one.name], []).append(one)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    for bag, images in views.items():
        best = max((one for one in images if len(one)), key=lambda one: one.detections.scores[0], default=None)
        told = ("no", "", "", "")
        if best:
            score = f"{best.detections.scores[0]:.4f}"
            told = ("yes", class_names[best.classes[0]], score, best.name)
        writer.writerow((bag, len(images), *told))
    write_text(folder / BAGS, stream.getvalue())
    return folder / BAGS


def _boxes(view: Prediction) -> BoxesOfImage:
    instances, (height, width) = view.instances, view.instances.image_size
    boxes = instances.pred_boxes.tensor.cpu().numpy().astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    return BoxesOfImage(
        "",
        np.zeros((0, 4)),
        np.zeros(0, int),
        np.zeros(0, bool),
        boxes,
        instances.pred_classes.cpu().numpy(),
        instances.scores.cpu().numpy().astype(float),
        (width, height),
    )
