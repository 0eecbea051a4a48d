"""Confusions and mistakes of a hand-made case whose numbers can be counted on an image."""

import numpy as np
import pytest
from pycocotools import mask as mask_util

from xray_lazy.evaluation.coco_metrics import RECALLS, coco_metrics
from xray_lazy.evaluation.matching import ImageMistakes, find_mistakes

GUN, KNIFE, BOTTLE = 2, 3, 11


def item(image, category, x, y, size=20, **more):
    return {"image_id": image, "category_id": category, "bbox": [x, y, size, size], **more}


def with_mask(thing):
    x, y, w, h = thing["bbox"]
    mask = np.zeros((100, 100), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    code = mask_util.encode(mask)
    return {**thing, "segmentation": {"size": [100, 100], "counts": code["counts"].decode()}}


@pytest.fixture(params=["bbox", "segm"])
def case(request):
    """Image 40: a gun found, a knife taken for a gun. 7: a gun missed, a crowd, a false knife. 8, 9: empty bags."""
    truth = [item(40, GUN, 10, 10), item(40, KNIFE, 50, 50), item(7, GUN, 10, 10, 30), item(7, GUN, 60, 60, 30)]
    found = [
        item(40, GUN, 10, 10, score=0.9),
        item(40, GUN, 50, 50, score=0.8),
        item(7, GUN, 60, 60, 10, score=0.7),  # inside the crowd
        item(7, KNIFE, 0, 80, 10, score=0.95),
        item(7, GUN, 10, 10, 30, score=0.2),  # right, but below the threshold
        item(9, BOTTLE, 0, 80, 10, score=0.55),
    ]
    annotations = [{"id": n, "iscrowd": 0, **thing} for n, thing in enumerate(truth)]
    annotations[3]["iscrowd"] = 1
    if request.param == "segm":
        annotations, found = map(with_mask, annotations), map(with_mask, found)
    ground_truth = {
        "images": [{"id": n, "width": 100, "height": 100} for n in (40, 7, 9, 8)],
        "annotations": list(annotations),
        "categories": [{"id": n, "name": name} for n, name in ((GUN, "gun"), (KNIFE, "knife"), (BOTTLE, "bottle"))],
    }
    return ground_truth, list(found), request.param


def test_confusions_are_counted_as_by_hand(case):
    assert find_mistakes(*case).confusion.tolist() == [
        [1, 0, 0, 1],  # one gun found, one missed
        [1, 0, 0, 0],  # the knife is taken for a gun
        [0, 0, 0, 0],
        [0, 1, 1, 0],  # a knife and a bottle where nothing is
    ]


def test_each_image_has_its_mistakes_and_the_worst_come_first(case):
    assert find_mistakes(*case).images == [
        ImageMistakes(7, found=0, missed=1, false=1),
        ImageMistakes(9, found=0, missed=0, false=1),
        ImageMistakes(40, found=1, missed=1, false=1),
        ImageMistakes(8, found=0, missed=0, false=0),
    ]
    assert [image.f1 for image in find_mistakes(*case).images] == [0, 0, 0.5, 1]


def test_a_lower_threshold_finds_more(case):
    mistakes = find_mistakes(*case, score_threshold=0.1)
    assert mistakes.confusion[0].tolist() == [2, 0, 0, 0]
    assert ImageMistakes(7, found=1, missed=0, false=1) in mistakes.images


def test_without_detections_everything_is_missed(case):
    ground_truth, _, kind = case
    mistakes = find_mistakes(ground_truth, [], kind)
    assert mistakes.confusion.sum() == mistakes.confusion[:, -1].sum() == 3


@pytest.mark.parametrize("use_hotcoco", [True, False], ids=["hotcoco", "pycocotools"])
def test_the_curve_of_a_class_is_its_precision_at_each_recall(case, use_hotcoco):
    gun, knife, bottle = coco_metrics(*case, use_hotcoco=use_hotcoco).categories
    # found at 0.9, false at 0.8 (a knife) and on the crowd at 0.7, which does not count, found at 0.2
    half = RECALLS <= 0.5
    assert np.array(gun.precisions50) == pytest.approx(np.where(half, 1, 2 / 3))
    assert np.array(gun.scores50) == pytest.approx(np.where(half, 0.9, 0.2))
    assert gun.ap50 == pytest.approx(100 * np.mean(gun.precisions50))
    assert knife.precisions50 == (0.0,) * 101
    assert bottle.precisions50 == bottle.scores50 == ()
