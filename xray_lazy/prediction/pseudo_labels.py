"""Labels to train on, of scans that nobody has labelled: what a model is sure of, and finds again in other views."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.datasets import WEIGHT
from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.data.image_reader import Reader
from xray_lazy.data.repair import repair
from xray_lazy.data.split.layout import TRANSFERS
from xray_lazy.errors import UserError
from xray_lazy.prediction.detection_files import Categories, Found, data_set
from xray_lazy.prediction.input_files import InputFile
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.results_place import check_replaceable, record_written, replace_folder, sole_maker

SAME_ITEM = 0.5  # IoU of boxes from which on two views show one item
FILE_NAME, IMAGES = "annotations.json", "images"


@dataclass(frozen=True)
class Agreed:
    """What all views of an image show.

    Attributes:
        found: these items alone.
        weight: in 0..1; the share of all items of any view that these are, times their mean score over the views.
    """

    found: Found
    weight: float


def agreed_labels(
    predictor: Predictor, found: Sequence[Found], files: Sequence[InputFile], second: Predictor | None = None
) -> list[Agreed]:
    """Items that the mirrored image shows, too, and a second model; images without any are left out.

    Thresholds of classes, as in Unbiased Teacher (Liu et al., ICLR 2021), and consistency under flips, as in CSD
    (Jeong et al., NeurIPS 2019).

    Args:
        found: what `predictor` finds in `files` above its thresholds.
        second: of the same classes, above its own thresholds.
    """
    views = [_mirrored(predictor, files)]
    if second is not None:
        views.append([ImageDetections.of(one) for one in second.predict(file.path for file in files)])
        views[-1] = [_renumbered(one, second.class_names, predictor.class_names) for one in views[-1]]
    agreed = [_agreed(one, [view[place] for view in views]) for place, one in enumerate(found)]
    return [one for one in agreed if len(one.found)]


def check_same_classes(first: Predictor, second: Predictor) -> None:
    """Raises UserError where two models do not know the same classes."""
    if not first.class_names or set(first.class_names) != set(second.class_names):
        raise UserError(
            f"the models know other classes: {', '.join(first.class_names)}; {', '.join(second.class_names)}",
            "give a --second-model that was trained on the same ones",
        )


def require_free_set(folder: Path) -> None:
    """Raises UserError where the folder holds something else than earlier pseudo-labels."""
    check_replaceable(folder, FILE_NAME, f"{folder} holds no earlier pseudo-labels that could be replaced")


def write_pseudo_labels(
    folder: Path, agreed: Sequence[Agreed], files: Sequence[InputFile], reader: Reader, categories: Categories
) -> Path:
    """Write a COCO set, whose images have a `weight`, with links to the images; replaces an earlier one.

    Args:
        files: by the names of `agreed`.
    """
    by_name = {str(file.name): file for file in files}
    results = [result for one in agreed for result in one.found.results(categories.ids)]
    content = data_set([one.found for one in agreed], results, categories)
    for image, one in zip(content["images"], agreed, strict=True):
        file = by_name[one.found.name]
        image |= {"file_name": file.result.with_suffix(file.path.suffix).as_posix(), WEIGHT: round(one.weight, 4)}
    content = repair(CocoSet("pseudo-labels", content), facts={}).content
    with sole_maker(folder) as work:
        made = work / "set"
        for one in agreed:
            _link(by_name[one.found.name], made / IMAGES, reader)
        write_json(made / FILE_NAME, content)
        images = [path.relative_to(made).as_posix() for path in made.rglob("*") if not path.is_dir()]
        record_written(made, [FILE_NAME], images)
        replace_folder(folder, made)
    return folder / FILE_NAME


def _link(file: InputFile, folder: Path, reader: Reader) -> None:
    """The image's files under the name of its results, so that those that are read together stay so."""
    target = folder / file.result.with_suffix(file.path.suffix)
    for source, place in zip(reader.files(file.path), reader.files(target), strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            TRANSFERS["link"](source, place)


def _mirrored(predictor: Predictor, files: Sequence[InputFile]) -> list[ImageDetections]:
    """What is found in the images with left and right swapped, in the pixels of the images themselves."""
    reader = predictor.detector.reader
    swapped = predictor.predict(np.ascontiguousarray(reader.read(file.path)[:, ::-1]) for file in files)
    views = []
    for one in swapped:
        detections, width = ImageDetections.of(one), one.image_size[1]
        left, top, right, bottom = detections.boxes.T
        boxes = np.stack([width - right, top, width - left, bottom], axis=1)
        views.append(ImageDetections(boxes, detections.scores, detections.classes, None))
    return views


def _renumbered(one: ImageDetections, names: Sequence[str], wanted: Sequence[str]) -> ImageDetections:
    index = np.array([wanted.index(name) for name in names], np.int32)
    return ImageDetections(one.boxes, one.scores, index[one.classes], one.masks)


def _agreed(found: Found, views: Sequence[ImageDetections]) -> Agreed:
    own = found.detections
    kept, scores, unseen = np.ones(len(own), bool), own.scores.copy(), 0
    for view in views:
        matched = _matches(own, view)
        kept &= matched >= 0
        scores += np.where(matched >= 0, view.scores[matched] if len(view) else 0, 0)
        unseen += len(view) - int((matched >= 0).sum())
    masks = None if own.masks is None else own.masks[kept]
    items = ImageDetections(own.boxes[kept], own.scores[kept], own.classes[kept], masks)
    share = kept.sum() / max(1, len(own) + unseen)
    weight = float(share * scores[kept].mean() / (1 + len(views))) if kept.any() else 0.0
    return Agreed(Found(found.name, found.image_id, found.height, found.width, items), weight)


def _matches(own: ImageDetections, view: ImageDetections) -> np.ndarray:
    """For each detection, the best first, the one of the view that is the same item, each once; else -1; (N,)."""
    matched = np.full(len(own), -1)
    if not len(own) or not len(view):
        return matched
    crowd = np.zeros(len(view), np.uint8)
    ious = mask_util.iou(own.xywh.astype(np.float64), view.xywh.astype(np.float64), crowd)
    ious[own.classes[:, None] != view.classes[None]] = 0
    for place in range(len(own)):
        best = int(ious[place].argmax())
        if ious[place, best] >= SAME_ITEM:
            matched[place] = best
            ious[:, best] = 0
    return matched
