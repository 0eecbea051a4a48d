"""Maps over images and boxes that move."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xray_lazy.inspection.box_paths import START_COLOUR, draw_boxes, draw_paths, score_colours
from xray_lazy.inspection.heat_maps import draw_components, draw_heat
from xray_lazy.visualization.overlay import class_colour, grey_background

WHITE = np.full((96, 160, 3), 255, np.uint8)


def test_a_map_is_brightest_where_its_values_are_highest():
    values = np.zeros((6, 10), np.float32)
    values[1, 8] = 1
    drawn = draw_heat(WHITE, values, enlargement=2)
    assert drawn.shape == (192, 320, 3)
    y, x = np.unravel_index(cv2.GaussianBlur(drawn, (31, 31), 0)[..., 2].argmax(), drawn.shape[:2])
    assert abs(y / 192 - 1.5 / 6) < 0.06 and abs(x / 320 - 8.5 / 10) < 0.06


def test_the_scan_stays_visible_where_values_are_low():
    image = WHITE.copy()
    image[:, 80:] = 0
    drawn = draw_heat(image, np.zeros((6, 10), np.float32), limits=(0.0, 1.0))
    assert drawn[50, 40].mean() - drawn[50, 120].mean() > 80


def test_the_same_limits_give_the_same_colours():
    high, low = (draw_heat(WHITE, np.full((6, 10), value), limits=(0, 1)) for value in (1.0, 0.1))
    assert high[..., 2].mean() > low[..., 2].mean() + 50


def test_components_become_colours():
    values = np.zeros((2, 2, 3))
    values[0, 0, 2], values[1, 1, 0] = 1, 1
    drawn = draw_components((20, 20), values)
    assert drawn[2, 2].argmax() == 2 and drawn[17, 17].argmax() == 0 and drawn.shape == (20, 20, 3)


def test_a_path_ends_in_its_class_colour_and_starts_grey():
    steps = np.array([[[5, 5, 40, 40]], [[60, 20, 110, 60]], [[100, 40, 150, 90]]], np.float32)
    drawn = draw_paths(WHITE, steps, [1])
    assert (drawn[40, 110:140] == class_colour(1)).all()
    assert abs(drawn[40, 20].astype(int) - START_COLOUR).max() < 130 and np.ptp(drawn[40, 20].astype(int)) < 10
    faded = drawn[20, 80].astype(int)
    assert faded[0] < faded[2] and not (faded == class_colour(1)).all()


@settings(max_examples=40, deadline=None)
@given(
    boxes=arrays.arrays(np.float32, (3, 2, 4), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)),
    factor=st.sampled_from([0.3, 1, 2.5]),
)
def test_any_boxes_can_be_drawn(boxes, factor):
    assert draw_paths(WHITE, boxes, [0, 20], factor).dtype == np.uint8
    assert draw_boxes(WHITE, boxes[0], [(0, 0, 255)] * 2, factor).shape[1] == round(160 * factor)


def test_better_scores_are_brighter():
    low, high = score_colours(np.array([0.1, 0.9]))
    assert sum(high) > sum(low)
    assert score_colours(np.array([])) == [] and len(score_colours(np.array([0.5]))) == 1


@pytest.mark.parametrize("bgr", [(50, 150, 245), (70, 180, 90), (190, 80, 35)])
def test_a_grey_ground_has_no_colours_and_no_black(bgr):
    ground = grey_background(np.full((4, 4, 3), bgr, np.uint8))
    assert np.ptp(ground, axis=2).max() == 0 and ground.min() >= 70
    assert grey_background(np.zeros((4, 4, 3), np.uint8)).min() == 70
