"""A data set as the content of a COCO file."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectron2.structures import BoxMode

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.evaluation.coco_metrics import encode_segmentation


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
