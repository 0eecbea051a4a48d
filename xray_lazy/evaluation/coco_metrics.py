"""COCO metrics of detections against any COCO-format ground truth: by hotcoco, or pycocotools where that is missing."""

import contextlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.data.masks.run_lengths import as_json, compressed, encode_polygons
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted, printable

AREA_NAMES = ("all", "small", "medium", "large")
AP50_INDEX, AP75_INDEX = 0, 5  # of the ten IoU thresholds 0.50, 0.55, ..., 0.95
RECALLS = np.linspace(0, 1, 101)  # at which COCO looks at the precision


@dataclass(frozen=True)
class CategoryMetrics:
    """The metrics of one category, in percent; NaN where it has no instance.

    `instances` counts those that are not crowd, `images` the images that show at least one of them. `precisions50`
    and `scores50` are the precision (0..1) at each of `RECALLS` at IoU 0.5, 0 where the recall isn't reached, and the
    score of the detections that reach it; empty where there is no instance.
    """

    id: int
    name: str
    instances: int
    images: int
    ap: float
    ap50: float
    ap75: float
    ar: float
    precisions50: tuple[float, ...] = ()
    scores50: tuple[float, ...] = ()


@dataclass(frozen=True)
class Metrics:
    """The summary figures by COCO's names (AP, AP50, APs, ..., AR100, ARs, ...) and each category's, in percent."""

    summary: dict[str, float]
    categories: list[CategoryMetrics]


IouType = Literal["bbox", "segm"]


def coco_metrics(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_type: IouType,
    max_detections: int = 100,
    use_hotcoco: bool = True,
) -> Metrics:
    """Evaluate detections as the COCO challenge does, equal to pycocotools' figures.

    Two things differ from pycocotools, both on purpose: an annotation may have the id 0 (pycocotools counts its match
    as a miss), and in `segm` an instance without a mask is not an error: its box becomes a crowd region, in which
    detections count neither as right nor as wrong.

    Args:
        ground_truth: the content of a COCO file; nothing in it is changed.
        detections: COCO results: image_id, category_id, score, and bbox (xywh) or segmentation (RLE). In `segm` the
            area of a detection is its mask's, whether it has a box or not.
        max_detections: how many detections count per image and category, the best first.
        use_hotcoco: False takes pycocotools, which is many times slower and gives the same figures.

    Returns:
        Values in 0..100, NaN where nothing could be found. The recalls are AR1, AR10 and AR<max_detections>.

    Raises:
        UserError: a detection names an image that the ground truth has not, lacks its box or mask, is not finite, or
            its mask has another size than the image.
    """
    if max_detections < 1:
        raise UserError(f"max_detections is {max_detections}", "give a number of at least 1")
    problem = Problem.build(ground_truth, detections, iou_type, max_detections)
    curves = _hotcoco_curves if use_hotcoco and has_hotcoco() else _pycocotools_curves
    return summarize(problem, count_instances(problem), *curves(problem))


def encode_segmentation(segmentation: list | dict | None, height: int, width: int) -> dict | None:
    """A COCO segmentation (polygons, uncompressed or compressed RLE) as compressed RLE; None where it is empty.

    `counts` is text, as JSON has it. Polygons of fewer than three points hold no area and are left out.
    """
    if isinstance(segmentation, dict):
        return compressed(as_json(segmentation))
    polygons = [np.asarray(polygon, dtype=np.float64).ravel() for polygon in segmentation or ()]
    polygons = [polygon[: len(polygon) // 2 * 2].tolist() for polygon in polygons if len(polygon) >= 6]
    return encode_polygons(polygons, height, width) if polygons else None


@dataclass(frozen=True)
class Problem:
    """Ground truth and detections in the one form that both libraries read alike: plain ids from 1, masks as RLE.

    `image_ids` are the data set's own, in the order of `images`.
    """

    iou_type: IouType
    image_ids: list
    images: list[dict]
    categories: list[dict]
    annotations: list[dict]
    detections: list[dict]
    detection_limits: list[int]

    @classmethod
    def build(
        cls,
        ground_truth: Mapping,
        detections: Sequence[Mapping],
        iou_type: IouType,
        max_detections: int,
        positions: Mapping[int | str, int] | None = None,
    ) -> "Problem":
        """From the content of a COCO file and COCO results.

        Args:
            positions: the plain ids of images by their own, where `ground_truth` is a part of the data set; see
                `image_positions`.
        """
        images = {image["id"]: image for image in ground_truth["images"]}
        positions = positions or image_positions(images)
        image_ids = sorted(images, key=positions.__getitem__)
        categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
        known = {category["id"] for category in categories}
        annotations = (a for a in ground_truth["annotations"] if a["image_id"] in images and a["category_id"] in known)
        _check_detections(detections, images, iou_type)
        return cls(
            iou_type=iou_type,
            image_ids=image_ids,
            images=[
                {"id": positions[i], "width": images[i].get("width") or 0, "height": images[i].get("height") or 0}
                for i in image_ids
            ],
            categories=[{"id": category["id"], "name": printable(str(category["name"]))} for category in categories],
            annotations=[
                {"id": number, "image_id": positions[a["image_id"]], "category_id": a["category_id"]}
                | _annotation_shape(a, images[a["image_id"]], iou_type)
                for number, a in enumerate(annotations, 1)
            ],
            detections=[
                {"id": number, "image_id": positions[d["image_id"]], "category_id": d["category_id"]}
                | _detection_shape(d, images[d["image_id"]], iou_type)
                for number, d in enumerate((d for d in detections if d["category_id"] in known), 1)
            ],
            detection_limits=_limits(max_detections),
        )


def image_positions(image_ids: Iterable[int | str]) -> dict[int | str, int]:
    """Plain ids from 1 of all images of a data set, in the order of their own."""
    ordered = sorted(image_ids, key=lambda image_id: (isinstance(image_id, str), image_id))
    return {image_id: position for position, image_id in enumerate(ordered, 1)}


def _annotation_shape(annotation: Mapping, image: Mapping, iou_type: str) -> dict:
    box = [float(value) for value in annotation["bbox"]]
    crowd = int(bool(annotation.get("iscrowd")))
    area = annotation.get("area")
    if iou_type == "bbox":
        if area is None:  # the object's, as in `segm`
            mask = _image_mask(annotation["segmentation"], image) if annotation.get("segmentation") else None
            area = box[2] * box[3] if mask is None else mask_util.area(mask)
        return {"bbox": box, "iscrowd": crowd, "area": float(area)}
    mask = _image_mask(annotation.get("segmentation"), image)
    if mask is None:
        x, y, w, h = box
        mask = _image_mask([[x, y, x + w, y, x + w, y + h, x, y + h]], image)
        crowd = 1
    area = float(mask_util.area(mask) if area is None else area)
    return {"segmentation": mask, "bbox": box, "iscrowd": crowd, "area": area}


def _detection_shape(detection: Mapping, image: Mapping, iou_type: str) -> dict:
    shape = {"score": float(detection["score"]), "iscrowd": 0}
    if iou_type == "bbox":
        box = [float(value) for value in detection["bbox"]]
        return shape | {"bbox": box, "area": box[2] * box[3]}
    mask = _image_mask(detection["segmentation"], image)
    return shape | {"segmentation": mask, "area": float(mask_util.area(mask))}


def _image_mask(segmentation: list | dict | None, image: Mapping) -> dict | None:
    """The mask as RLE of the image's size; both libraries would take any other size for "no overlap" in silence."""
    height, width = image.get("height") or 0, image.get("width") or 0
    if not (height and width):
        raise UserError(
            f"image {image['id']} has width {width} and height {height}", "run `tools/dataset.py repair` on the set"
        )
    mask = encode_segmentation(segmentation, height, width)
    if mask and list(mask["size"]) != [height, width]:
        other = "x".join(map(str, reversed(mask["size"])))
        raise UserError(
            f"image {image['id']} is {width}x{height} in the ground truth, a mask on it is {other}",
            "run `tools/dataset.py check` on the set, and predict at the images' own sizes",
        )
    return mask


def _check_detections(detections: Sequence[Mapping], images: Mapping, iou_type: str) -> None:
    unknown = sorted({str(d["image_id"]) for d in detections if d["image_id"] not in images})
    if unknown:
        raise UserError(
            f"{counted(len(unknown), 'image of the detections is', 'images of the detections are')} not in the "
            f"ground truth, such as id {unknown[0]}",
            "evaluate the detections against the data set that they were made for",
        )
    shape = "segmentation" if iou_type == "segm" else "bbox"
    lacking = sum(not detection.get(shape) for detection in detections)
    if lacking:
        raise UserError(
            f"{counted(lacking, 'detection has', 'detections have')} no {shape}",
            f"{iou_type} metrics need one for each detection",
        )
    infinite = [d["image_id"] for d in detections if not all(map(math.isfinite, (d["score"], *(d.get("bbox") or ()))))]
    if infinite:
        raise UserError(
            f"{counted(len(infinite), 'detection has', 'detections have')} a score or box that is not finite, the "
            f"first on image {infinite[0]}",
            "leave them out, or find out why the model gives them",
        )


def has_hotcoco() -> bool:
    """Whether hotcoco is installed."""
    try:
        import hotcoco  # noqa: F401
    except ImportError:
        return False
    return True


def _hotcoco_curves(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (10, 101, K, 4, M), recall (10, K, 4, M), and scores as precision.

    Precision and recall are -1 where a category has no instance of that size.
    """
    evaluation = hotcoco_evaluation(problem)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"], evaluation.eval["scores"]


def hotcoco_evaluation(problem: Problem) -> Any:
    """hotcoco's COCOeval, before it has evaluated."""
    from hotcoco import COCO, COCOeval

    truth = COCO({"images": problem.images, "categories": problem.categories, "annotations": problem.annotations})
    evaluation = COCOeval(truth, truth.load_res(problem.detections), problem.iou_type)
    evaluation.params.max_dets = problem.detection_limits
    return evaluation


def _pycocotools_curves(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same arrays as `_hotcoco_curves`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def indexed(annotations: Iterable[dict]) -> Any:
        coco: Any = COCO()
        # copies, because pycocotools writes into them
        coco.dataset = {
            "images": problem.images,
            "categories": problem.categories,
            "annotations": [dict(annotation) for annotation in annotations],
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and has no switch for that
        evaluation = COCOeval(indexed(problem.annotations), indexed(problem.detections), problem.iou_type)
        evaluation.params.maxDets = problem.detection_limits
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"], evaluation.eval["scores"]


@dataclass(frozen=True)
class InstanceCounts:
    """By category, how many instances there are that are not crowd, and how many images show one at least."""

    instances: Counter[int]
    images: Counter[int]


def count_instances(problem: Problem) -> InstanceCounts:
    """Of the ground truth; those of parts of a data set add up to its own."""
    places = [(a["category_id"], a["image_id"]) for a in problem.annotations if not a["iscrowd"]]
    return InstanceCounts(Counter(category for category, _ in places), Counter(category for category, _ in set(places)))


def summary_names(max_detections: int) -> list[str]:
    """The keys of `Metrics.summary`."""
    sizes = [area[0] for area in AREA_NAMES[1:]]
    recalls = [f"AR{one}" for one in (*_limits(max_detections), *sizes)]
    return ["AP", "AP50", "AP75", *(f"AP{size}" for size in sizes), *recalls]


def _limits(max_detections: int) -> list[int]:
    return sorted({limit for limit in (1, 10, max_detections) if limit <= max_detections})


def summarize(
    problem: Problem, counts: InstanceCounts, precision: np.ndarray, recall: np.ndarray, scores: np.ndarray
) -> Metrics:
    """Means over what has instances; AP and the recalls by size are for the largest number of detections.

    Args:
        problem: gives categories and limits; its ground truth may be a part of the data set.
        counts: of the whole data set.
        precision: (10, 101, K, 4, M) by IoU threshold, recall, category, area and limit of detections, -1 where a
            category has no instance of that size.
        recall: (10, K, 4, M), in percent or NaN.
        scores: as `precision`.
    """
    limits = problem.detection_limits
    summary = {
        "AP": percent(precision[:, :, :, 0, -1]),
        "AP50": percent(precision[AP50_INDEX, :, :, 0, -1]),
        "AP75": percent(precision[AP75_INDEX, :, :, 0, -1]),
    }
    summary |= {f"AP{area[0]}": percent(precision[..., index, -1]) for index, area in enumerate(AREA_NAMES) if index}
    summary |= {f"AR{limit}": percent(recall[:, :, 0, index]) for index, limit in enumerate(limits)}
    summary |= {f"AR{area[0]}": percent(recall[..., index, -1]) for index, area in enumerate(AREA_NAMES) if index}
    categories = [
        CategoryMetrics(
            id=category["id"],
            name=category["name"],
            instances=counts.instances[category["id"]],
            images=counts.images[category["id"]],
            ap=percent(precision[:, :, index, 0, -1]),
            ap50=percent(precision[AP50_INDEX, :, index, 0, -1]),
            ap75=percent(precision[AP75_INDEX, :, index, 0, -1]),
            ar=percent(recall[:, index, 0, -1]),
            precisions50=_present(precision[AP50_INDEX, :, index, 0, -1]),
            scores50=_present(scores[AP50_INDEX, :, index, 0, -1]),
        )
        for index, category in enumerate(problem.categories)
    ]
    return Metrics(summary, categories)


def percent(values: np.ndarray) -> float:
    """The mean of what is there in percent; NaN where nothing is."""
    present = values[values > -1]
    return float(present.mean() * 100) if present.size else float("nan")


def _present(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist()) if values[0] > -1 else ()
