"""Copy-paste: items of one bag in another, with boxes and masks that are where they are."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from tests.data.augmentation.conftest import as_image, empty_bag, write_bags
from xray_lazy.data.augmentation.copy_paste import CopyPaste
from xray_lazy.data.augmentation.mixing import OtherRecords, Scene
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_reader import read_record
from xray_lazy.errors import UserError

SIZE = (480, 640)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = write_bags(tmp_path_factory.mktemp("copies") / "bags")
    dataset = load_datasets({"json_file": str(folder / "set.json"), "image_root": str(folder / "images")})
    return OtherRecords(dataset, dataset.class_names, dataset.trained_boxes, read_record)


def pasted(part, others, seed=0):
    scene = Scene(as_image(empty_bag(seed, SIZE)), [])
    return scene.image.copy(), part(scene, np.random.default_rng(seed), others)


def test_pasted_items_change_what_their_masks_cover_and_nothing_else(others):
    part = CopyPaste(probability=1.0, items=(1, 3))
    found = 0
    for seed in range(8):
        before, after = pasted(part, others, seed)
        covered = np.zeros(SIZE, np.uint8)
        for annotation in after.annotations:
            covered |= mask_util.decode(annotation["segmentation"])
            assert mask_util.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
        found += len(after.annotations)
        darker = after.image.astype(int) - before
        assert (darker[cv2.dilate(covered, np.ones((9, 9), np.uint8)) == 0] == 0).all() and (darker <= 0).all()
        if len(after.annotations):
            assert np.median(darker.min(2)[covered > 0]) < -60
    assert found >= 8


def test_classes_are_those_of_the_bags_that_items_come_from(others):
    part = CopyPaste(probability=1.0)
    drawn = {a["category_id"] for seed in range(8) for a in pasted(part, others, seed)[1].annotations}
    assert drawn and drawn <= {a["category_id"] for record in others.records for a in record["annotations"]}


def test_the_same_draws_paste_the_same(others):
    first, second = (pasted(CopyPaste(probability=1.0), others, 3)[1] for _ in range(2))
    assert (first.image == second.image).all() and first.annotations == second.annotations
    before, after = pasted(CopyPaste(probability=0.0), others)
    assert (before == after.image).all() and not after.annotations


def test_values_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="probability"):
        CopyPaste(probability=2.0)
    with pytest.raises(UserError, match="scale"):
        CopyPaste(scale=(0.0, 1.0))
