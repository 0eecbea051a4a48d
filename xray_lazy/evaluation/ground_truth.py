"""The ground truth of a data set: as the content of a COCO file, and matched by each process with its detections."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.data.masks.run_lengths import as_json, compressed, first_unsound
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import (
    InstanceCounts,
    Metrics,
    Problem,
    count_instances,
    encode_segmentation,
    summarize,
)

if TYPE_CHECKING:
    from hotcoco import StreamingEval

# Images that are matched at a time: with 100 masks each, about 20 MB.
IMAGES_AT_ONCE = 64
MASKS_AT_ONCE = 255  # more at a time overflow in pycocotools' area()


def coco_content(dataset: DetectionDataset, records: Iterable[Mapping]) -> dict[str, Any]:
    """Some or all records of a data set, with the ids of its images and classes, and masks as compressed RLE.

    Annotations are numbered from 1.
    """
    images, annotations = [], []
    for record in records:
        size = {"width": record["width"], "height": record["height"]}
        images.append({"id": record["image_id"], **size, "file_name": record["file_name"]})
        for instance in record["annotations"]:
            own = {"id": len(annotations) + 1, "image_id": record["image_id"]}
            annotations.append(own | _annotation(instance, record, dataset.category_ids))
    names = zip(dataset.category_ids, dataset.class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in names]
    return {"images": images, "annotations": annotations, "categories": categories}


def check_masks(dataset: DetectionDataset) -> None:
    """Refuse what pycocotools counts in silence: texts of RLEs that were cut off, or are of another image.

    Raises:
        UserError: the runs of a mask do not add up to its size.
    """
    named = (
        (instance["id"], record["file_name"], compressed(as_json(instance["segmentation"])))
        for record in dataset
        for instance in record["annotations"]
        if isinstance(instance.get("segmentation"), dict)
    )
    while part := list(islice(named, MASKS_AT_ONCE)):
        place = first_unsound([mask for _, _, mask in part])
        if place is not None:
            annotation_id, image, _ = part[place]
            raise UserError(
                f"the runs of a mask do not add up to its size: that of annotation {annotation_id} in {image}",
                "`tools/dataset.py check` tells what is wrong with the set, `repair` leaves such masks out",
            )


@dataclass(frozen=True)
class MatchedPart:
    """Which detections of a part of a data set are right. Pickled it is 2 kB for an image with 100 detections."""

    evaluation: "StreamingEval"
    counts: InstanceCounts


class GroundTruth:
    """The instances of some images in the form in which they are matched, made once for all evaluations of a run.

    Args:
        problem: with the images' annotations and no detections.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self.annotations: dict[int, list[dict]] = defaultdict(list)
        for annotation in problem.annotations:
            self.annotations[annotation["image_id"]].append(annotation)

    def match(self, detections: Mapping[int | str, ImageDetections], category_ids: Sequence[int]) -> MatchedPart:
        """Match the detections of its images; needs hotcoco.

        Args:
            detections: by the data set's image ids; images that are not among them have no detections.
            category_ids: the data set's, by the classes of the detections.

        Raises:
            UserError: masks are evaluated, and a detection has none.
        """
        from hotcoco import Params, StreamingEval

        problem, categories = self.problem, np.asarray(category_ids)
        params = Params(problem.iou_type)
        params.max_dets = problem.detection_limits
        evaluation = StreamingEval(problem.categories, problem.iou_type, params=params)
        for start in range(0, len(problem.images), IMAGES_AT_ONCE):
            images = problem.images[start : start + IMAGES_AT_ONCE]
            image_ids = problem.image_ids[start : start + IMAGES_AT_ONCE]
            annotations = [a for image in images for a in self.annotations.get(image["id"], ())]
            found = [
                (image["id"], detections[i]) for image, i in zip(images, image_ids, strict=True) if i in detections
            ]
            masks: Any = None
            if problem.iou_type == "segm":
                masks = [mask for _, one in found for mask in one.masks or ()]
                if len(masks) != sum(len(one) for _, one in found):
                    raise UserError("some detections have masks and some have none", "evaluate them apart")
            evaluation.update(images, annotations, _table(found, categories, masks), segmentation=masks)
        return MatchedPart(evaluation, count_instances(problem))

    def metrics(self, parts: Sequence[MatchedPart]) -> Metrics:
        """Figures equal to those of `coco_metrics` for a whole data set, from the matches of its parts."""
        from hotcoco import StreamingEval

        counts = InstanceCounts(
            sum((part.counts.instances for part in parts), Counter()),
            sum((part.counts.images for part in parts), Counter()),
        )
        result = StreamingEval.merge(part.evaluation for part in parts).finalize()
        result.accumulate()
        curves: Any = result.eval
        return summarize(self.problem, counts, curves["precision"], curves["recall"], curves["scores"])


def _table(
    found: Sequence[tuple[int, ImageDetections]], category_ids: np.ndarray, masks: list[dict] | None
) -> np.ndarray:
    """(N, 7) float64: number of the image, xywh, score, category, as hotcoco takes them."""
    rows = [np.zeros((0, 7))]
    for number, one in found:
        numbers = np.full(len(one), number)
        rows.append(np.column_stack([numbers, one.xywh, one.scores, category_ids[one.classes]]))
    table = np.concatenate(rows)
    if masks is not None:
        # hotcoco takes the box's area for that of a detection; COCO's rule for masks is the area of the mask
        parts = [mask_util.area(masks[at : at + MASKS_AT_ONCE]) for at in range(0, len(masks), MASKS_AT_ONCE)]
        table[:, 3:5] = 1
        table[:, 3] = np.concatenate(parts) if parts else table[:, 3]
    return table


def _annotation(instance: Mapping, record: Mapping, category_ids: Sequence[int]) -> dict:
    result = {
        "category_id": category_ids[instance["category_id"]],
        "bbox": list(BoxMode.convert(instance["bbox"], instance["bbox_mode"], BoxMode.XYWH_ABS)),
        "iscrowd": int(bool(instance.get("iscrowd"))),
    }
    if instance.get("area") is not None:
        result["area"] = instance["area"]
    mask = encode_segmentation(instance.get("segmentation"), record["height"], record["width"])
    return result if mask is None else {**result, "segmentation": mask}
