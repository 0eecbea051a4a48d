"""Drawn instances lie where they should, can be told apart, and survive any image and box."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from xray_lazy.data.image_detections import Drawn
from xray_lazy.data.masks.mask_encoding import encode_bitmaps
from xray_lazy.errors import UserError
from xray_lazy.visualization.overlay import (
    CLASS_COLOURS,
    canvas_mask,
    class_colour,
    draw_instances,
    instances_of_prediction,
    instances_of_record,
)

NAMES = ("gun", "knife", "scissors")
# what pseudo-colour gives the materials: organic, mixed, metal, air
XRAY_COLOURS = ((245, 150, 50), (90, 180, 70), (35, 80, 190), (255, 255, 255))


def lab(rgb):
    return cv2.cvtColor(np.float32([[rgb]]) / 255, cv2.COLOR_RGB2Lab)[0, 0]


def changed(before, after):
    """Which pixels a drawing changed, (H, W) bool; `after` may be enlarged."""
    factor = after.shape[0] // before.shape[0]
    if factor > 1:
        before = cv2.resize(before, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return (before != after).any(axis=2)


def triangle(height, width):
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [np.array([[300, 300], [600, 350], [400, 550]])], 1)
    return mask


def test_colours_differ_from_each_other_and_from_the_scan():
    for first, second in itertools.combinations(CLASS_COLOURS, 2):
        assert np.linalg.norm(lab(first) - lab(second)) > 20, (first, second)
    for colour, material in itertools.product(CLASS_COLOURS, XRAY_COLOURS):
        assert np.linalg.norm(lab(colour) - lab(material)) > 25, (colour, material)


def test_a_class_keeps_its_colour_and_any_number_of_classes_has_one():
    assert class_colour(2) == CLASS_COLOURS[2][::-1]
    assert class_colour(len(CLASS_COLOURS) + 2) == class_colour(2)


@pytest.mark.parametrize("form", ["bitmap", "bool", "polygons", "compressed", "uncompressed"])
def test_a_mask_is_drawn_where_it_is_whatever_its_form(form):
    image = np.full((800, 900, 3), 255, np.uint8)
    mask = triangle(800, 900)
    flat = mask.flatten(order="F")
    counts = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), len(flat)]).tolist()
    given_mask = {
        "bitmap": mask,
        "bool": mask.astype(bool),
        "polygons": [[300, 300, 600, 350, 400, 550]],
        "compressed": mask_util.encode(np.asfortranarray(mask)),
        "uncompressed": {"size": [800, 900], "counts": counts},
    }[form]
    touched = changed(image, draw_instances(image, [Drawn(0, (300, 300, 601, 551), mask=given_mask)], NAMES))
    core, surroundings = cv2.erode(mask, np.ones((9, 9))), cv2.dilate(mask, np.ones((15, 15)))
    assert touched[core > 0].all()
    below_label = np.arange(800)[:, None] > 295
    assert not (touched & (surroundings == 0) & below_label).any()


def test_the_fill_lets_the_scan_show_through_and_the_outline_has_the_class_colour():
    image = np.zeros((800, 900, 3), np.uint8)
    image[:, ::2] = 200
    drawn = draw_instances(image, [Drawn(0, (300, 300, 601, 551), mask=triangle(800, 900))], NAMES)
    inside = drawn[400, 400:440].astype(int)
    assert np.abs(inside[::2] - inside[1::2]).max() > 100
    assert (drawn == class_colour(0)).all(axis=2).sum() > 500


def test_overlapping_polygons_of_one_instance_do_not_cancel_out():
    image = np.full((800, 800, 3), 255, np.uint8)
    parts = [[100, 200, 500, 200, 500, 500, 100, 500], [300, 300, 700, 300, 700, 600, 300, 600]]
    touched = changed(image, draw_instances(image, [Drawn(0, (100, 200, 700, 600), mask=parts)], NAMES))
    assert touched[350:450, 350:450].all()


def test_without_a_mask_the_box_is_drawn_and_its_inside_stays():
    image = np.full((800, 900, 3), 255, np.uint8)
    touched = changed(image, draw_instances(image, [Drawn(1, (300, 300, 600, 500), 0.97)], NAMES))
    assert touched[300, 300:600].all() and touched[300:500, 600].all()
    assert not touched[310:490, 310:590].any()


@pytest.mark.parametrize(
    "box", [(300, 300, 600, 500), (0, 0, 200, 100), (700, 600, 900, 800), (0, 500, 60, 560), (0, 0, 900, 700)]
)
def test_a_label_does_not_cover_its_item_where_there_is_room(box):
    image = np.full((800, 900, 3), 255, np.uint8)
    x0, y0, x1, y1 = box
    touched = changed(image, draw_instances(image, [Drawn(0, box, 0.97)], NAMES))
    assert not touched[y0 + 6 : y1 - 6, x0 + 6 : x1 - 6].any()
    touched[max(0, y0 - 3) : y1 + 4, max(0, x0 - 3) : x1 + 4] = False
    assert touched.sum() > 500, "the label is missing"


def test_a_label_on_an_item_that_fills_the_image_is_inside():
    image = np.full((800, 900, 3), 255, np.uint8)
    touched = changed(image, draw_instances(image, [Drawn(0, (0, 0, 900, 800), 0.97)], NAMES))
    assert touched[5:-5, 5:-5].sum() > 500


@pytest.mark.parametrize(("size", "factor"), [((192, 320), 3), ((400, 390), 2), ((1080, 1920), 1), ((576, 768), 1)])
def test_small_images_are_enlarged_by_a_whole_factor(size, factor):
    drawn = draw_instances(np.zeros((*size, 3), np.uint8), [], NAMES)
    assert drawn.shape == (size[0] * factor, size[1] * factor, 3)
    assert draw_instances(np.zeros((*size, 3), np.uint8), [], NAMES, enlargement=1).shape == (*size, 3)


def test_labels_grow_with_the_image():
    def label_rows(height, width):
        image = np.full((height, width, 3), 255, np.uint8)
        box = (0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height)
        touched = changed(image, draw_instances(image, [Drawn(0, box, 0.97)], NAMES))
        return touched[: int(0.39 * height)].any(axis=1).sum()

    assert label_rows(2160, 3840) > 1.7 * label_rows(1080, 1920) > 1.7 * label_rows(720, 1280)


def test_the_image_given_is_not_drawn_on():
    image = np.full((800, 900, 3), 255, np.uint8)
    draw_instances(image, [Drawn(0, (300, 300, 600, 500))], NAMES)
    assert (image == 255).all()


def test_grey_images_get_coloured_drawings():
    drawn = draw_instances(np.full((800, 900), 128, np.uint8), [Drawn(0, (300, 300, 600, 500))], NAMES)
    assert (drawn == class_colour(0)).all(axis=2).any()


def test_an_empty_image_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (800, 900, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_instances(image, [], NAMES), image)


def test_a_class_without_a_name_and_an_empty_mask_are_drawn_all_the_same():
    image = np.full((800, 900, 3), 255, np.uint8)
    for mask in (np.zeros((800, 900), bool), [[1, 1, 2, 2]]):
        drawn = draw_instances(image, [Drawn(7, (300, 300, 600, 500), mask=mask)], NAMES)
        assert changed(image, drawn)[300, 300:600].all()


numbers = st.one_of(st.floats(-500, 1500), st.floats(allow_nan=True, allow_infinity=True))


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6),
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    polygon=st.booleans(),
)
def test_any_box_on_any_image_can_be_drawn(boxes, height, width, polygon):
    image = np.full((height, width, 3), 255, np.uint8)
    instances = [
        Drawn(index, (x0, y0, x1, y1), 0.5, [[x0, y0, x1, y0, x1, y1]] if polygon else None)
        for index, (x0, y0, x1, y1) in enumerate(boxes)
    ]
    drawn = draw_instances(image, instances, NAMES)
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] % height == 0 and drawn.shape[1] % width == 0 and drawn.shape[2] == 3


def test_ground_truth_comes_from_a_dataset_dict():
    record = {
        "annotations": [
            {"bbox": [10, 20, 30, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0,
             "segmentation": [[10, 20, 40, 20, 40, 60]]},
            {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 1},
        ]
    }  # fmt: skip
    knife, crowd = instances_of_record(record)
    assert (knife.class_id, knife.box, knife.score, knife.is_crowd) == (1, (10, 20, 40, 60), None, False)
    assert knife.mask == [[10, 20, 40, 20, 40, 60]]
    assert crowd.is_crowd and crowd.mask is None
    assert instances_of_record({}) == []


@pytest.mark.parametrize("masks", ["none", "bitmaps", "encoded"])
def test_predictions_come_from_instances_from_the_threshold_on(masks):
    instances = Instances((60, 80))
    instances.pred_boxes = Boxes(torch.tensor([[1.0, 2, 30, 40], [5, 5, 9, 9]]))
    instances.pred_classes = torch.tensor([2, 0])
    instances.scores = torch.tensor([0.75, 0.25])
    if masks != "none":
        bitmaps = torch.ones(2, 60, 80, dtype=torch.bool)
        instances.pred_masks = encode_bitmaps(bitmaps) if masks == "encoded" else bitmaps
    (found,) = instances_of_prediction(instances, 0.5)
    assert (found.class_id, found.box, found.score) == (2, (1, 2, 30, 40), 0.75)
    assert found.mask is None if masks == "none" else canvas_mask(found.mask, (60, 80), 1).all()
    assert len(instances_of_prediction(instances)) == 2


def test_on_a_grey_ground_only_classes_have_colours():
    image = np.full((800, 900, 3), (50, 150, 245), np.uint8)
    drawn = draw_instances(image, [Drawn(0, (300, 300, 600, 500))], NAMES, grey=True)
    coloured = np.ptp(drawn.astype(int), axis=2) > 20
    assert not coloured[520:].any() and coloured[300:500, 300:600].any()


def test_a_smaller_drawing_has_lines_and_labels_that_can_still_be_seen():
    image = np.full((1080, 1920, 3), 255, np.uint8)
    drawn = draw_instances(image, [Drawn(0, (480, 500, 960, 900))], NAMES, enlargement=0.25)
    assert drawn.shape == (270, 480, 3)
    assert (drawn[150:220, 118:123] == class_colour(0)).all(axis=2).any(axis=1).all()
    assert (drawn == class_colour(0)).all(axis=2)[:122].sum() > 200, "the label is missing"


def test_what_is_quiet_has_an_outline_and_neither_label_nor_fill():
    image = np.full((800, 900, 3), 255, np.uint8)
    mask = triangle(800, 900)
    touched = changed(image, draw_instances(image, [Drawn(0, (300, 300, 601, 551), mask=mask, is_quiet=True)], NAMES))
    assert touched.any() and not touched[cv2.erode(mask, np.ones((9, 9))) > 0].any()
    assert not touched[cv2.dilate(mask, np.ones((9, 9))) == 0].any()


def test_a_label_of_its_own_stands_for_the_name_and_an_empty_one_for_none():
    image = np.full((800, 900, 3), 255, np.uint8)
    named, own, none = (
        changed(image, draw_instances(image, [Drawn(0, (300, 300, 600, 500), label=label)], NAMES))[:290]
        for label in (None, "gun: box beyond", "")
    )
    assert own.sum() > 2 * named.sum() > 0 and not none.any()


@pytest.mark.parametrize("counts", ["5", "l`0", [5, 5], b"5"])
def test_a_mask_whose_runs_do_not_add_up_is_refused(counts):
    with pytest.raises(UserError, match="a mask can't be drawn: "):
        canvas_mask({"size": [48, 64], "counts": counts}, (48, 64), 1.0)
