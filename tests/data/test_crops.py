"""Crops, as the 300-proposal recipe of Sparse R-CNN makes them."""

import cv2
import numpy as np
import pytest
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from xray_lazy.config import get_config
from xray_lazy.data.mapper import DetectionMapper


@pytest.fixture
def triangle(tmp_path):
    """An image of 100x100 with one object, the lower left half of a square from (20, 20) to (80, 80)."""
    cv2.imwrite(str(tmp_path / "bag.png"), np.full((100, 100, 3), 255, np.uint8))
    annotation = {
        "bbox": [20, 20, 60, 60],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "iscrowd": 0,
        "segmentation": [[20, 20, 80, 80, 20, 80]],
    }
    return {"file_name": str(tmp_path / "bag.png"), "height": 100, "width": 100, "annotations": [annotation]}


def upper_half(**settings) -> DetectionMapper:
    return DetectionMapper([T.CropTransform(0, 0, 100, 50)], **settings)


def test_boxes_are_those_of_what_a_crop_left_of_the_mask(triangle):
    instances = upper_half(recompute_boxes=True)(triangle)["instances"]
    assert np.allclose(instances.gt_boxes.tensor[0], [20, 20, 50, 50], atol=2)
    clipped = upper_half()(triangle)["instances"]
    assert np.allclose(clipped.gt_boxes.tensor[0], [20, 20, 80, 50])


def test_an_object_that_a_crop_left_out_is_no_target(triangle):
    sample = DetectionMapper([T.CropTransform(85, 85, 10, 10)])(triangle)
    assert len(sample["instances"]) == 0


def test_every_second_image_of_the_300_proposal_recipe_is_cropped(triangle):
    mapper = get_config("projects/sparse_rcnn/sparse_rcnn_r50_300pro_3x.py").dataloader.train.mapper
    np.random.seed(0)
    mapper = instantiate(mapper)
    shapes = [tuple(mapper(triangle)["image"].shape[1:]) for _ in range(60)]
    assert 15 < sum(height != width for height, width in shapes) < 45
    assert all(480 <= min(shape) <= 800 and max(shape) <= 1333 for shape in shapes)
