"""When two lists of detections are the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.export.agreement import compare


def detections(count, seed=0):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 100, (count, 2))
    return {
        "boxes": np.concatenate([corners, corners + random.uniform(1, 50, (count, 2))], 1).astype(np.float32),
        "scores": np.sort(random.uniform(size=count).astype(np.float32))[::-1],
        "classes": random.integers(0, 3, count),
        "masks": random.uniform(size=(count, 4, 4)).astype(np.float32),
    }


@given(st.integers(0, 30), st.integers(0, 100))
def test_detections_agree_with_themselves(count, seed):
    difference = compare(detections(count, seed), detections(count, seed))
    assert difference.agrees
    assert (difference.wanted, difference.found, difference.boxes, difference.scores) == (count, count, 0, 0)


def test_what_is_below_the_least_score_counts_only_as_the_pair_of_what_is_not():
    one = detections(5) | {"scores": np.array([0.9, 0.5, 0.0501, 0.03, 0.02], np.float32)}
    other = {name: values.copy() for name, values in one.items()}
    other["scores"][2] = 0.0499
    other["boxes"][3:] += 50
    assert compare(one, other, least=0.05).agrees and not compare(one, other).agrees
    assert compare(one, other, least=0.05).wanted == 3 and compare(one, other, least=0.05).found == 2
    other["boxes"][2] += 50
    assert not compare(one, other, least=0.05).agrees
    less = {name: values[:1] for name, values in one.items()}
    assert compare(one, less, least=0.05).unmatched == compare(less, one, least=0.05).unmatched == 2


@given(st.permutations(range(8)))
def test_those_of_equal_scores_may_stand_in_any_order(order):
    one = detections(8) | {"scores": np.full(8, 0.5)}
    other = {name: values[order] for name, values in one.items()}
    assert compare(one, other).agrees


@given(
    st.sampled_from([("boxes", 0.09, 0.11), ("scores", 0.9e-3, 1.1e-3), ("masks", 0.9e-2, 1.1e-2)]),
    st.integers(0, 4),
    st.integers(0, 20),
)
def test_one_number_out_of_its_limit_is_a_difference(changed, index, seed):
    name, within, beyond = changed
    one = detections(5, seed)
    for by, expected in ((within, True), (beyond, False)):
        other = {key: values.copy().astype(np.float64) for key, values in one.items()}
        other[name][index].flat[-1:] += by
        if name == "scores":
            other[name][index] += by
        assert compare(one, other).agrees == expected


@pytest.mark.parametrize(
    ("change", "unmatched"),
    [
        (lambda found: {name: values[:-1] for name, values in found.items()}, 1),
        (lambda found: {name: values[:0] for name, values in found.items()}, 5),
        (lambda found: found | {"classes": found["classes"] + 3}, 10),
        (lambda found: found | {"scores": found["scores"] * np.nan}, 10),
    ],
    ids=["one is missing", "all are missing", "other classes", "scores are not numbers"],
)
def test_a_detection_without_its_like_is_a_difference(change, unmatched):
    difference = compare(detections(5), change(detections(5)))
    assert not difference.agrees and difference.unmatched == unmatched


def test_boxes_that_are_not_numbers_agree_with_nothing():
    broken = detections(3) | {"boxes": np.full((3, 4), np.nan)}
    assert not compare(detections(3), broken).agrees


def test_masks_that_only_one_model_has_are_a_difference():
    without = {name: values for name, values in detections(3).items() if name != "masks"}
    assert not compare(detections(3), without).agrees
    assert compare(without, without).agrees
