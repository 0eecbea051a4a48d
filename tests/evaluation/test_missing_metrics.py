"""Metrics that a data set can't give: told from its annotations, they are those that perfect detections have not."""

import math

import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.engine.evaluated_sets import together
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.screening.in_training import BagScreening

SMALL, MEDIUM, LARGE = 20, 60, 150
CLASSES = ("gun", "knife", "bottle")
SIZE = 200


def item(category, side, crowd=0, mask=True):
    found = {"bbox": [10, 10, side, side], "bbox_mode": BoxMode.XYWH_ABS, "category_id": category}
    found |= {"iscrowd": crowd, "area": float(side * side)}
    corners = [10, 10, 10 + side, 10, 10 + side, 10 + side, 10, 10 + side]
    return found | ({"segmentation": [corners]} if mask else {})


SETS = {
    "all there is": [[item(0, SMALL)], [item(1, MEDIUM), item(2, LARGE)], []],
    "a class and two sizes are missing": [[item(0, SMALL)], [item(1, SMALL)], []],
    "nothing is annotated": [[], []],
    "no bag is clean, each has a gun": [[item(0, MEDIUM)], [item(0, MEDIUM), item(1, LARGE)]],
    "boxes alone": [[item(0, SMALL, mask=False)], [item(2, LARGE, mask=False)], []],
    "crowd regions alone": [[item(0, LARGE, crowd=1)], []],
}


def data_set(name):
    records = [
        {"file_name": f"{i}.png", "height": SIZE, "width": SIZE, "image_id": i, "annotations": annotations}
        for i, annotations in enumerate(SETS[name])
    ]
    return DetectionDataset(records, name, CLASSES, (1, 2, 3))


def perfectly_evaluated(dataset):
    evaluator = CocoEvaluator(dataset, screening=BagScreening(per_class=True))
    for record in dataset:
        items = [one for one in record["annotations"] if not one["iscrowd"]]
        found = Instances((SIZE, SIZE))
        boxes = torch.tensor([one["bbox"] for one in items], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found.pred_boxes, found.scores = Boxes(boxes), torch.ones(len(items))
        found.pred_classes = torch.tensor([one["category_id"] for one in items], dtype=torch.int64)
        masks = torch.zeros(len(items), SIZE, SIZE, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int(), strict=True):
            mask[y0:y1, x0:x1] = True
        found.pred_masks = masks
        evaluator.process([record], [{"instances": found}])
    return evaluator, evaluator.evaluate()


def with_value(results):
    return {f"{task}/{name}" for task, of in results.items() for name, value in of.items() if not math.isnan(value)}


@pytest.mark.parametrize("name", SETS)
def test_what_is_missing_is_what_perfect_detections_have_not(name):
    evaluator, results = perfectly_evaluated(data_set(name))
    missing = evaluator.missing_metrics([evaluator])
    assert set(evaluator.metric_names()) - set(missing) == with_value(results)
    assert all(name in reason for reason in missing.values())


@pytest.mark.parametrize(
    "names", [("all there is", "nothing is annotated"), ("boxes alone", "a class and two sizes are missing"), [*SETS]]
)
def test_so_it_is_of_several_sets_together(names):
    evaluators, results = zip(*(perfectly_evaluated(data_set(name)) for name in names), strict=True)
    sets = [_Set(name, any(evaluator.dataset.trained_boxes)) for name, evaluator in zip(names, evaluators, strict=True)]
    of_all = together(sets, results) | evaluators[0].over_sets(evaluators)
    own = {task: metrics for task, metrics in of_all.items() if "/" not in task}
    missing = evaluators[0].missing_metrics(evaluators)
    assert set(evaluators[0].metric_names()) - set(missing) == with_value(own)


class _Set:
    def __init__(self, name, has_items):
        self.name, self.has_items = name, has_items
