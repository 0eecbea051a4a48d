"""Which bags alarm, and which alarms are right."""

import numpy as np
import pytest

from xray_lazy.evaluation.screening.bags import NEVER, BoxesOfImage, HitRule, score_bags

pytestmark = pytest.mark.fast
GUN, KNIFE = 0, 1


def image(bag, items=(), detections=(), crowd=()):
    """Items are (class, x), detections (class, x, score); all boxes are 10 pixels wide and high."""

    def boxes(places):
        return np.array([[x, 0, 10, 10] for x in places], float).reshape(-1, 4)

    return BoxesOfImage(
        bag,
        boxes([x for _, x in items]),
        np.array([of for of, _ in items], int),
        np.array(crowd or [False] * len(items), bool),
        boxes([x for _, x, _ in detections]),
        np.array([of for of, _, _ in detections], int),
        np.array([score for *_, score in detections], float),
    )


def test_a_hit_shows_an_item_of_its_class_and_an_alarm_need_not():
    scored = score_bags(
        [
            image("hit", [(GUN, 0)], [(GUN, 2, 0.8), (GUN, 50, 0.9)]),
            image("other class", [(GUN, 0)], [(KNIFE, 1, 0.7)]),
            image("beside", [(KNIFE, 0)], [(KNIFE, 8, 0.6)]),
            image("clean", [], [(GUN, 0, 0.3)]),
            image("silent"),
        ],
        classes=2,
    )
    assert scored.bags == ["hit", "other class", "beside", "clean", "silent"]
    assert scored.is_threat.tolist() == [True, True, True, False, False]
    assert scored.alarm.tolist() == [[0.9, NEVER], [NEVER, 0.7], [NEVER, 0.6], [0.3, NEVER], [NEVER, NEVER]]
    assert scored.hit.tolist() == [[0.8, NEVER], *[[NEVER, NEVER]] * 4]
    assert scored.hit_of_any.tolist() == [0.8, 0.7, NEVER, NEVER, NEVER]


def test_images_of_a_bag_are_one():
    images = [
        image("a", [], [(GUN, 0, 0.5)]),
        image("b", [(GUN, 0)], [(GUN, 0, 0.4)]),
        image("a", [(KNIFE, 0)], [(KNIFE, 0, 0.2), (GUN, 3, 0.6)]),
    ]
    scored = score_bags(images, classes=2)
    assert scored.bags == ["a", "b"]
    assert scored.shows.tolist() == [[False, True], [True, False]]
    assert scored.alarm.tolist() == [[0.6, 0.2], [0.4, NEVER]]
    assert scored.hit.tolist() == [[NEVER, 0.2], [0.4, NEVER]]


def test_a_detection_on_a_crowd_region_of_its_class_is_neither_right_nor_wrong():
    on_crowd = image("a", [(GUN, 0)], [(GUN, 0, 0.5), (KNIFE, 0, 0.4)], crowd=[True])
    scored = score_bags([on_crowd], classes=2)
    assert not scored.is_threat.any() and scored.hit_of_any.tolist() == [NEVER]
    assert scored.alarm.tolist() == [[NEVER, 0.4]]
    on_both = image("a", [(GUN, 0), (GUN, 0)], [(GUN, 0, 0.5)], crowd=[True, False])
    assert score_bags([on_both], classes=1).alarm.tolist() == [[0.5]]


@pytest.mark.parametrize(("rule", "hit"), [(HitRule(), NEVER), (HitRule(iou=0.3), 0.5), (HitRule("centre"), 0.5)])
def test_the_rule_says_what_is_a_hit(rule, hit):
    assert score_bags([image("a", [(GUN, 0)], [(GUN, 5, 0.5)])], 1, rule).hit.tolist() == [[hit]]


def test_no_images_are_no_bags():
    scored = score_bags([], classes=3)
    assert scored.alarm.shape == (0, 3) and scored.hit_of_any.shape == (0,)
