"""Mosaic: four images in one, with what is left of their items."""

import numpy as np
import pytest
from detectron2.structures import BoxMode
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from xray_lazy.data.augmentation.mixing import OtherRecords, Scene
from xray_lazy.data.augmentation.mosaic import Mosaic
from xray_lazy.errors import UserError

SIZE = (60, 80)  # height, width
SHADES = {0: 40, 1: 90}  # grey level of the items of each class: on the canvas they are known by it


def scene(class_id, boxes, size=SIZE, masks="polygon"):
    """White, with even rectangles of a class; a mask of each as polygon or RLE, or none."""
    image, annotations = np.full((*size, 3), 240, np.uint8), []
    for x, y, w, h in boxes:
        image[y : y + h, x : x + w] = SHADES[class_id]
        one = {
            "bbox": [x, y, w, h],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": class_id,
            "iscrowd": 0,
            "area": w * h,
        }
        if masks == "polygon":
            one["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        elif masks == "rle":
            bits = np.zeros(size, np.uint8, order="F")
            bits[y : y + h, x : x + w] = 1
            one["segmentation"] = mask_util.encode(bits)
        annotations.append(one)
    return Scene(image, annotations)


def others_of(*scenes):
    records = [
        {"annotations": one.annotations, "file_name": f"{number}.png", "number": number}
        for number, one in enumerate(scenes)
    ]
    return OtherRecords(records, ("knife", "gun"), (1, 1), lambda record: scenes[record["number"]].image.copy())


def mosaic(seed=0, masks="polygon", size=SIZE, boxes=((10, 10, 30, 20), (55, 40, 12, 10)), **options):
    others = others_of(scene(1, [(5, 30, 20, 25)], masks=masks), scene(1, [], (30, 100), masks=masks))
    part = Mosaic(probability=1.0, **options)
    return part(scene(0, boxes, size, masks), np.random.default_rng(seed), others)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["polygon", "rle"]))
def test_boxes_and_masks_lie_on_what_is_seen(seed, masks):
    result = mosaic(seed, masks, least_visible=0.2)
    assert result.size == SIZE
    for one in result.annotations:
        x, y, w, h = one["bbox"]
        assert x >= 0 and y >= 0 and x + w <= SIZE[1] + 1e-3 and y + h <= SIZE[0] + 1e-3
        bits = mask_util.decode(one["segmentation"]).astype(bool)
        # inside of its edges, which resizing blends with what is around
        inside = bits.copy()
        inside[1:-1, 1:-1] &= bits[:-2, 1:-1] & bits[2:, 1:-1] & bits[1:-1, :-2] & bits[1:-1, 2:]
        inside[[0, -1]] = inside[:, [0, -1]] = False
        assert np.abs(result.image[inside].astype(int) - SHADES[one["category_id"]]).max(initial=0) <= 60
        rows, columns = np.nonzero(bits)
        assert abs(columns.min() - x) <= 1.5 and abs(rows.max() + 1 - y - h) <= 1.5


def test_the_box_of_what_a_cut_leaves_of_a_slanting_item_is_that_of_its_mask():
    triangle = scene(0, [(10, 10, 60, 40)])
    triangle.annotations[0]["segmentation"] = [[10, 10, 70, 10, 70, 50]]
    cut = 0
    for seed in range(40):
        result = Mosaic(1.0, scale=(1.0, 1.0))(triangle, np.random.default_rng(seed), others_of(scene(1, [])))
        for one in result.annotations:
            rows, columns = np.nonzero(mask_util.decode(one["segmentation"]))
            tight = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            if one["bbox"][2:] != [60, 40]:
                cut += 1
                assert one["bbox"] == tight
    assert cut > 5


def test_the_image_itself_is_always_one_of_the_four():
    for seed in range(20):
        result = mosaic(seed, least_visible=0.0, scale=(1.0, 1.0), boxes=((0, 0, SIZE[1], SIZE[0]),))
        assert any(one["category_id"] == 0 for one in result.annotations)


def test_what_is_cut_off_too_far_is_left_out():
    shares = []
    for seed in range(40):
        for one in mosaic(seed, scale=(1.0, 1.0), boxes=((10, 10, 30, 20),), least_visible=0.6).annotations:
            shares.append(one["bbox"][2] * one["bbox"][3] / (600 if one["category_id"] == 0 else 500))
    assert shares and min(shares) >= 0.6 and min(shares) < 1


def test_boxes_alone_will_do_and_shared_annotations_stay_as_they_are():
    given_scene = scene(0, [(10, 10, 30, 20)], masks=None)
    before = [dict(one) for one in given_scene.annotations]
    result = Mosaic(1.0)(given_scene, np.random.default_rng(1), others_of(scene(1, [(5, 30, 20, 25)], masks=None)))
    assert given_scene.annotations == before
    assert result.annotations and all("segmentation" not in one for one in result.annotations)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_thin_images_are_taken(size):
    result = mosaic(size=size, boxes=())
    assert result.size == size


def test_equal_draws_give_equal_mosaics_and_none_is_made_without_probability():
    first, again, other = mosaic(3), mosaic(3), mosaic(4)
    assert np.array_equal(first.image, again.image) and first.annotations == again.annotations
    assert not np.array_equal(first.image, other.image)
    given_scene = scene(0, [])
    assert Mosaic(0.0)(given_scene, np.random.default_rng(0), others_of(scene(1, []))) is given_scene


@pytest.mark.parametrize(
    "wrong", [{"probability": 2}, {"middle": (0.7, 0.3)}, {"scale": (0, 1)}, {"least_visible": -1}]
)
def test_values_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UserError):
        Mosaic(**wrong)
