"""Make media for the writers from what an evaluator has just found; no model runs for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_detections import Drawn, by_image
from xray_lazy.data.image_reader import Reader
from xray_lazy.data.likely_reader import picture
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.coco_metrics import RECALLS, Metrics
from xray_lazy.evaluation.matching import ImageMistakes, Mistakes
from xray_lazy.evaluation.screening.curve import Curve, corner_places
from xray_lazy.evaluation.screening.in_training import join_bags
from xray_lazy.evaluation.screening.marks import Marks
from xray_lazy.tracking.media import ComparedImage, ConfusionMatrix, PrecisionRecall, RateCurve, WorstImages
from xray_lazy.utils.wording import printable
from xray_lazy.visualization.confusion_chart import draw_confusion_matrix
from xray_lazy.visualization.montage import side_by_side
from xray_lazy.visualization.overlay import draw_instances
from xray_lazy.visualization.rate_curve import draw_rate_curve

BACKGROUND = "background"
CURVE_POINTS = 500
MOST_FALSE_MARKS = 8  # per image: LUNA16 looks no further


@runtime_checkable
class ReviewableEvaluator(Protocol):
    """An evaluator that can be asked what it has evaluated; `CocoEvaluator` is one."""

    dataset: DetectionDataset
    ground_truth: dict
    predictions: list[dict]
    max_detections: int
    metrics: Mapping[str, Metrics]


class ImageMaker:
    """Makes images with their ground truth and detections from an evaluation.

    Args:
        evaluator: after its evaluation.
        image_ids: of the images that will be asked for.
        score_threshold: detections below it are not shown.
        long_edge: pixels; larger images are made smaller.
        reader: of the images' files; None for 8-bit colours.
    """

    def __init__(
        self,
        evaluator: ReviewableEvaluator,
        image_ids: Iterable[int | str],
        score_threshold: float,
        long_edge: int,
        reader: Reader | None = None,
    ):
        wanted = set(image_ids)
        self.class_names = evaluator.dataset.class_names
        self._long_edge, self._reader = long_edge, reader
        self._index = {category: index for index, category in enumerate(evaluator.dataset.category_ids)}
        self._records = {r["image_id"]: r for r in evaluator.dataset if r["image_id"] in wanted}
        self._truth = by_image(evaluator.ground_truth["annotations"], wanted)
        shown = (prediction for prediction in evaluator.predictions if prediction["score"] >= score_threshold)
        self._detections = by_image(shown, wanted)

    def __call__(self, image_id: int | str, note: str = "") -> ComparedImage:
        """One of the images; `note` goes to the title of the detections where they are drawn.

        Raises:
            UnreadableImage: the file is gone or damaged.
        """
        record = self._records[image_id]
        image = picture(record["file_name"], self._reader)
        factor = min(1.0, self._long_edge / max(image.shape[:2]))
        if factor < 1:
            size = tuple(max(1, round(edge * factor)) for edge in image.shape[1::-1])
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        truth, detections = (
            [self._drawn(instance, record, image) for instance in found.get(image_id, ())]
            for found in (self._truth, self._detections)
        )
        file_name = printable(Path(record["file_name"]).name)

        def drawn() -> np.ndarray:
            sides = (draw_instances(image, side, self.class_names) for side in (truth, detections))
            return side_by_side(*sides, titles=(f"ground truth of {file_name}", f"prediction{note}"))[..., ::-1]

        return ComparedImage(image[..., ::-1], file_name, truth, detections, self.class_names, drawn)

    def _drawn(self, thing: Mapping, record: Mapping, image: np.ndarray) -> Drawn:
        """An annotation or detection in the pixels of the image as it is shown."""
        height, width = image.shape[:2]
        scale = width / record["width"], height / record["height"]
        mask = thing.get("segmentation")
        drawn = Drawn.of_coco(thing, self._index[thing["category_id"]], scale)
        return replace(drawn, mask=mask and _resized_mask(mask, (height, width)))


def worst_pictures(worst: Sequence[ImageMistakes], make: ImageMaker) -> WorstImages:
    """Images with the numbers of their mistakes."""
    return WorstImages(
        images=[make(m.image_id, f": {m.found} found, {m.missed} missed, {m.false} false") for m in worst],
        found=[m.found for m in worst],
        missed=[m.missed for m in worst],
        false=[m.false for m in worst],
    )


def confusion_matrix(mistakes: Mistakes, class_names: Sequence[str]) -> ConfusionMatrix:
    """The confusion matrix under the classes' names."""
    names = (*class_names, BACKGROUND)
    return ConfusionMatrix(mistakes.confusion, names, lambda: draw_confusion_matrix(mistakes.confusion, names))


def precision_recall(metrics: Metrics) -> PrecisionRecall:
    """The curves of the classes that have instances."""
    present = [category for category in metrics.categories if category.precisions50]
    return PrecisionRecall(
        recalls=RECALLS,
        precisions={category.name: np.array(category.precisions50) for category in present},
        scores={category.name: np.array(category.scores50) for category in present},
        instances={category.name: category.instances for category in present},
    )


def screening_curves(evaluators: Sequence[CocoEvaluator]) -> dict[str, RateCurve]:
    """ROC of the bags and FROC of the items of all sets together; nothing where there is no screening."""
    bags = [one.bags for one in evaluators if one.bags is not None]
    marks = Marks.joined([one.marks for one in evaluators if one.marks is not None])
    if not bags:
        return {}
    curves: dict[str, RateCurve] = {}
    roc = Curve.of(*join_bags(bags).of_all)
    if roc.clean and roc.threats:
        names = ("false alarms, % of clean bags", "detected, % of bags with a threat")
        curves["screening_roc"] = _rate_curve(100 * roc.false_alarms, 100 * roc.detections, names, "Bags")
    false, found = marks.curve()
    inside = false <= MOST_FALSE_MARKS
    if marks.items:
        names = ("false marks per image", "items found, %")
        curves["screening_froc"] = _rate_curve(false[inside], 100 * found[inside], names, "Items")
    return curves


def _rate_curve(x: np.ndarray, y: np.ndarray, names: tuple[str, str], title: str) -> RateCurve:
    """With the most that is reached at each price, thinned to a number of points that charts take."""
    corners = corner_places(x, CURVE_POINTS)
    x, y = x[corners], y[corners]
    return RateCurve(x, y, names, lambda: draw_rate_curve(x, y, names, title))


def _resized_mask(mask: dict, size: tuple[int, int]) -> dict:
    """A compressed RLE at another size (height, width)."""
    if tuple(mask["size"]) == size:
        return mask
    # by area, so that a wire of a pixel's width does not vanish at half the size
    resized = cv2.resize(mask_util.decode(mask) * 255, size[::-1], interpolation=cv2.INTER_AREA)
    return mask_util.encode(np.asfortranarray(resized > 63, dtype=np.uint8))
