"""Learned weights for the views of a bag: what a counterpart in the other view adds to a detection's score."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import BoxesOfImage, HitRule, score_bags
from xray_lazy.evaluation.screening.curve import Curve
from xray_lazy.evaluation.screening.view_fusion import ViewFusion, read_fusion

RULE, NAMES = HitRule(), ("gun", "knife")


def image(bag, items=(), found=(), size=(100, 100)):
    """Items (class, x, y) and detections (class, x, y, score) of 20 pixels."""
    boxes = [np.array([[*one[1:3], 20, 20] for one in of], float).reshape(-1, 4) for of in (items, found)]
    classes = [np.array([one[0] for one in of], int) for of in (items, found)]
    scores = np.array([one[3] for one in found], float)
    return BoxesOfImage(bag, boxes[0], classes[0], np.zeros(len(items), bool), boxes[1], classes[1], scores, size)


def bags(count, seed=0, x_of_other=lambda x, random: x):
    """Threats are seen in both views, at one place of the belt; false alarms of clean bags in one, as sure."""
    random, images = np.random.default_rng(seed), []
    for number in range(count):
        x, k, (first, second) = random.uniform(0, 80), number % 2, random.uniform(0.2, 0.9, 2)
        if number % 4 < 2:
            other = x_of_other(x, random)
            images += [image(number, [(k, x, 5)], [(k, x, 5, first)])]
            images += [image(number, [(k, other, 50)], [(k, other, 50, second)])]
        else:
            images += [image(number, (), [(k, x, 5, first)]), image(number)]
    return images


def detected(images):
    return Curve.of(*score_bags(images, 2, RULE).of_all).detection_at(0.02)


@pytest.mark.parametrize("axis", ["x", "none"])
def test_a_counterpart_makes_a_threat_of_a_detection(axis):
    fusion = ViewFusion.fit(bags(200), 2, RULE, axis)
    assert (fusion.weights[:, 3] > 1).all() and (fusion.weights[:, 1:3] >= 0).all()
    others = bags(200, seed=1)
    assert detected(others) < 0.5 and detected(fusion.fuse(others)) == 1


def test_a_counterpart_lies_at_the_same_place_of_the_belt_in_shares_of_the_image():
    fusion = ViewFusion.fit(bags(200), 2, RULE, "x")
    own = image("a", (), [(0, 10, 0, 0.5)])

    def fused(other):
        return fusion.fuse([own, other])[0].scores[0]

    there, none = fused(image("a", (), [(0, 12, 60, 0.5)])), fused(image("a"))
    assert there > none + 0.2
    assert fused(image("a", (), [(0, 60, 60, 0.5)])) == none  # elsewhere on the belt
    assert fused(image("a", (), [(1, 12, 60, 0.5)])) == none  # of another class
    assert fused(image("b", (), [(0, 12, 60, 0.5)])) not in (there, none)  # of another bag: this one has one view
    twice = replace(image("a", (), [(0, 24, 60, 0.5)], (200, 100)), boxes=np.array([[24.0, 60, 40, 20]]))
    assert fused(twice) == there
    assert ViewFusion.fit(bags(200), 2, RULE, "none").fuse([own, image("a", (), [(0, 60, 60, 0.5)])])[0].scores > none


def test_a_wrong_axis_finds_no_counterparts():
    fusion = ViewFusion.fit(bags(200), 2, RULE, "y")
    others = bags(200, seed=1)
    assert detected(fusion.fuse(others)) < 0.5


def test_without_anything_to_learn_from_scores_stay_as_they_are():
    nothing = [image(number) for number in range(4)]
    fusion = ViewFusion.fit(nothing, 2, RULE, "none")
    np.testing.assert_allclose(fusion.weights, [[0, 1, 0, 0]] * 2)
    some = [
        image("a", (), [(0, 1, 1, 0.3), (1, 1, 1, 0.8)]),
        image("a", (), [(0, 1, 1, 0.6)]),
        image("b", (), [(0, 1, 1, 0.1)]),
    ]
    for before, after in zip(some, fusion.fuse(some), strict=True):
        np.testing.assert_allclose(after.scores, before.scores)


def test_a_class_of_few_detections_has_nearly_the_weights_of_all():
    guns = [one for one in bags(300) if not (one.classes == 1).any() and not (one.item_classes == 1).any()]
    few = [image("k", [(1, 5, 5)], [(1, 5, 5, 0.5)]), image("k", [(1, 5, 50)], [(1, 5, 50, 0.4)])]
    weights = ViewFusion.fit([*guns, *few], 2, RULE, "x").weights
    np.testing.assert_allclose(weights[1], weights[0], atol=0.5)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(st.tuples(st.integers(0, 1), st.floats(0, 90), st.floats(0, 90)), max_size=2),
            st.lists(st.tuples(st.integers(0, 1), st.floats(0, 90), st.floats(0, 90), st.floats(0, 1)), max_size=4),
        ),
        max_size=6,
    ),
    st.sampled_from(["x", "y", "none"]),
)
def test_any_detections_get_scores_that_grow_with_their_own(content, axis):
    images = [image(*one) for one in content]
    fusion = ViewFusion.fit(images, 2, RULE, axis)
    for before, after in zip(images, fusion.fuse(images), strict=True):
        assert after.scores.shape == before.scores.shape and ((after.scores >= 0) & (after.scores <= 1)).all()
    assert (fusion.weights[:, 1:3] >= 0).all() and np.isfinite(fusion.weights).all() and np.isfinite(fusion.alone).all()


def test_weights_are_read_as_they_were_written_and_by_class_name():
    fusion = ViewFusion.fit(bags(40), 2, RULE, "x")
    read = ViewFusion.from_json(fusion.as_json(NAMES), NAMES[::-1], "file")
    np.testing.assert_array_equal(read.weights, fusion.weights[::-1])
    np.testing.assert_array_equal(read.alone, fusion.alone[::-1])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"axis": "z"}, "its axis is 'z'"),
        ({"weights": {"gun": [1, 2]}}, "its weights are not 4 numbers by class"),
        ({"alone": None}, "its alone are not 2 numbers by class"),
        ({"alone": {"gun": [0, 1]}}, "weights for gun, and not for gun, knife"),
    ],
)
def test_other_content_is_refused(change, complaint):
    content = ViewFusion.fit([], 2, RULE, "none").as_json(NAMES)
    with pytest.raises(UserError, match=complaint):
        ViewFusion.from_json(content | change, NAMES, "file")


@pytest.mark.parametrize(("text", "complaint"), [("{", "is not a JSON file"), ('{"schema": 1}', "holds no weights")])
def test_other_files_are_refused(tmp_path, text, complaint):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(UserError, match=complaint):
        read_fusion(tmp_path / "f.json")
    with pytest.raises(UserError, match="there is no file of weights for views"):
        read_fusion(tmp_path / "gone.json")
