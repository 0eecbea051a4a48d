"""COCO metrics by hotcoco beside pycocotools, through the same function of ours."""

from pathlib import Path

import numpy as np

from benchmarks.pairs import Comparison, compare
from xray_lazy.evaluation.coco_metrics import coco_metrics

PICTURES, DETECTIONS = 100, 40


def compare_all(folder: Path) -> list[Comparison]:
    ground_truth, detections = random_problem()
    return [
        compare(
            f"{iou_type} AP of {PICTURES} pictures x {DETECTIONS} detections (pycocotools)",
            "picture",
            lambda kind=iou_type: coco_metrics(ground_truth, detections, kind),
            lambda kind=iou_type: coco_metrics(ground_truth, detections, kind, use_hotcoco=False),
            units=PICTURES,
            pairs=5,
        )
        for iou_type in ("bbox", "segm")
    ]


def random_problem() -> tuple[dict, list[dict]]:
    """Ground truth with 8 instances a picture, and detections around them."""
    random = np.random.default_rng(0)
    images = [{"id": i, "width": 1920, "height": 1080, "file_name": f"{i}.jpg"} for i in range(1, PICTURES + 1)]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 14)]
    annotations, detections = [], []
    for image in images:
        boxes = np.column_stack(
            [random.uniform(0, 1500, 8), random.uniform(0, 800, 8), random.uniform(20, 300, (8, 2))]
        )
        classes = random.integers(1, 14, 8)
        for box, category in zip(boxes, classes, strict=True):
            annotations.append(_entry(image, category, box) | {"id": len(annotations) + 1, "iscrowd": 0})
        for number in range(DETECTIONS):
            box = boxes[number % 8] + random.normal(0, 8, 4)
            box[2:] = np.maximum(box[2:], 5)
            detections.append(_entry(image, classes[number % 8], box) | {"score": float(random.uniform())})
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def _entry(image: dict, category: int, box: np.ndarray) -> dict:
    x, y, width, height = (float(value) for value in box)
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    return {
        "image_id": image["id"],
        "category_id": int(category),
        "bbox": [x, y, width, height],
        "area": width * height,
        "segmentation": [corners],
    }
