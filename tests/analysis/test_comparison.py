"""Two runs compared: hand-made ones, a bootstrap done the long way, and what can't be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.cases import GUN, KNIFE, every_error, inputs_of, thing
from xray_lazy.analysis.comparison import compare, intervals
from xray_lazy.analysis.inputs import same_truth
from xray_lazy.analysis.results import TOO_FEW
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import coco_metrics


def runs(images=40, masks=False):
    """Two runs on the same images, of which the second is the more exact."""
    random = np.random.default_rng(3)
    annotations, first, second = [], [], []
    for image in range(1, images + 1):
        for category in (GUN, KNIFE)[: random.integers(0, 3)]:
            x, y = random.integers(0, 60, 2)
            annotations.append(thing(image, category, (x, y, 30, 30)))
            for found, most in ((first, 14), (second, 5)):
                box = (x + random.integers(0, most), y + random.integers(0, most), 30, 30)
                found.append(thing(image, category, box, score=float(random.uniform(0.1, 1))))
    more = {"images": images, "masks": masks}
    return inputs_of(annotations, first, **more), inputs_of(annotations, second, **more)


def test_a_run_is_better_where_the_interval_lies_above_zero():
    first, second = runs()
    ap = compare(first, second, resamples=200).tasks["bbox"][0]
    assert ap.first == pytest.approx(coco_metrics(first.ground_truth, first.detections, "bbox").summary["AP"])
    assert ap.change == pytest.approx(ap.second - ap.first)
    assert 0 < ap.lower < ap.change < ap.upper and ap.verdict == "better"
    back = compare(second, first, resamples=200).tasks["bbox"][0]
    assert (back.lower, back.upper, back.verdict) == (pytest.approx(-ap.upper), pytest.approx(-ap.lower), "worse")


def test_the_interval_of_one_run_holds_its_value():
    first, second = runs()
    found = {}
    for name, run in (("first", first), ("second", second)):
        found[name] = intervals(run.ground_truth, run.detections, resamples=200)
        summary = coco_metrics(run.ground_truth, run.detections, "bbox").summary
        for figure in ("AP", "AP50", "AP75"):
            value, lower, upper = found[name][figure]
            assert value == pytest.approx(summary[figure]) and lower <= value <= upper
    assert found["first"]["AP"][2] < found["second"]["AP"][0]


def test_a_run_does_not_differ_from_itself():
    first, _ = runs(90, masks=True)
    comparison = compare(first, first, resamples=100)
    assert set(comparison.tasks) == {"bbox", "segm"}
    for one in (*comparison.tasks["bbox"], *comparison.tasks["segm"]):
        assert (one.change, one.lower, one.upper, one.verdict) == (0, 0, 0, "no difference shown")


def test_what_was_matched_on_the_same_ground_truth_is_not_matched_again():
    first, second = runs()
    assert same_truth(first, second) is second and second.matches("bbox") is second.matches("bbox")
    other = replace(second, ground_truth={**second.ground_truth, "annotations": first.ground_truth["annotations"][1:]})
    again = same_truth(first, other)
    assert again.ground_truth == first.ground_truth
    np.testing.assert_equal(vars(again.matches("bbox")), vars(second.matches("bbox")))
    assert compare(first, other, 100).tasks == compare(first, second, 100).tasks


def test_the_bounds_are_those_of_evaluating_each_draw_anew():
    first, second = runs(12)
    random = np.random.default_rng(0)
    draws = random.multinomial(12, np.full(12, 1 / 12), size=100)
    changes = {"AP": [], "AP50": [], "AP-gun": []}
    for draw in draws:
        summaries = [metrics_of_draw(inputs, draw) for inputs in (first, second)]
        for name, values in changes.items():
            values.append(summaries[1][name] - summaries[0][name])
    found = {one.name: one for one in compare(first, second, resamples=100, seed=0, confidence=0.9).tasks["bbox"]}
    for name, values in changes.items():
        bounds = np.percentile([value for value in values if not math.isnan(value)], [5, 95])
        assert (found[name].lower, found[name].upper) == pytest.approx(tuple(bounds))


def metrics_of_draw(inputs, draw):
    """The metrics of a set in which each image is there as often as it was drawn."""
    truth, images, annotations, detections = inputs.ground_truth, [], [], []
    for image, often in zip(truth["images"], draw, strict=True):
        for _ in range(often):
            number = len(images) + 1
            images.append({**image, "id": number})
            annotations += [{**a, "image_id": number} for a in truth["annotations"] if a["image_id"] == image["id"]]
            detections += [{**d, "image_id": number} for d in inputs.detections if d["image_id"] == image["id"]]
    metrics = coco_metrics({**truth, "images": images, "annotations": annotations}, detections, "bbox")
    return metrics.summary | {f"AP-{one.name}": one.ap for one in metrics.categories}


def test_the_same_seed_gives_the_same_bounds():
    first, second = runs(10)
    assert compare(first, second, 100, seed=5) == compare(first, second, 100, seed=5)
    assert compare(first, second, 100, seed=5) != compare(first, second, 100, seed=6)


def test_a_class_without_items_has_no_change():
    annotations = [thing(1, GUN, (0, 0, 20, 20))]
    one = inputs_of(annotations, [thing(1, GUN, (0, 0, 20, 20), score=0.5)])
    knife = compare(one, one, 100).tasks["bbox"][-1]
    assert knife.name == "AP-knife" and math.isnan(knife.change) and knife.verdict == TOO_FEW


def test_runs_without_detections_can_be_compared():
    first, second = runs()
    ap = compare(replace(first, detections=[]), second, 100).tasks["bbox"][0]
    assert ap.first == 0 and ap.verdict == "better"


@pytest.mark.parametrize("images", [1, 19])
def test_few_images_give_no_verdict_however_narrow_the_interval(images):
    box = (10, 10, 30, 30)
    annotations = [thing(image, GUN, box) for image in range(1, 31) if image <= images]
    found = [thing(one["image_id"], GUN, box, score=0.9) for one in annotations]
    missed, exact = (inputs_of(annotations, detections, images=30) for detections in ([], found))
    ap = compare(missed, exact, 100).tasks["bbox"][0]
    assert (ap.lower, ap.change, ap.upper, ap.verdict) == (100, 100, 100, TOO_FEW)


def test_a_class_in_few_images_gets_no_verdict_beside_others():
    annotations = [thing(image, GUN, (10, 10, 30, 30)) for image in range(1, 21)] + [thing(7, KNIFE, (50, 50, 20, 20))]
    crowds = [thing(image, KNIFE, (0, 0, 9, 9), iscrowd=1) for image in range(1, 21)]
    found = [{**one, "score": 0.9} for one in annotations]
    first, second = (inputs_of(annotations + crowds, detections, images=20) for detections in ([], found))
    verdicts = {one.name: one.verdict for one in compare(first, second, 100).tasks["bbox"]}
    assert verdicts == dict.fromkeys(("AP", "AP50", "AP75", "AR", "AP-gun"), "better") | {"AP-knife": TOO_FEW}


def test_images_of_one_bag_are_drawn_together():
    """Views of a bag say less than as many bags: a set of which each image is there twice has the same bounds."""
    first, second = runs(40)
    once = compare(first, second, 200)
    twice = [doubled(inputs) for inputs in (first, second)]
    assert twice[0].ground_truth["images"][1]["bag"] == "1"
    comparison = compare(*twice, 200)
    assert (comparison.images, comparison.bags, once.bags) == (80, 40, 40)
    for one, other in zip(once.tasks["bbox"], comparison.tasks["bbox"], strict=True):
        assert (one.lower, one.upper) == pytest.approx((other.lower, other.upper))
    few = compare(*(doubled(inputs) for inputs in runs(20)), 100)
    assert {one.verdict for one in few.tasks["bbox"]} == {TOO_FEW}


def doubled(inputs):
    """Each image as two views of one bag."""
    truth = inputs.ground_truth
    number = 2 * len(truth["images"])
    images, annotations, detections = [], [], []
    for image in truth["images"]:
        for view in (0, 1):
            new = image["id"] + view * number
            images.append({**image, "id": new, "bag": str(image["id"])})
            annotations += [{**a, "image_id": new} for a in truth["annotations"] if a["image_id"] == image["id"]]
            detections += [{**d, "image_id": new} for d in inputs.detections if d["image_id"] == image["id"]]
    annotations = [{**annotation, "id": place} for place, annotation in enumerate(annotations, 1)]
    return replace(inputs, ground_truth={**truth, "images": images, "annotations": annotations}, detections=detections)


def test_runs_on_other_images_are_refused():
    with pytest.raises(UserError, match="not of the same images"):
        compare(inputs_of(*every_error()), inputs_of(*every_error(), images=5), 100)


def test_too_few_resamples_are_refused():
    with pytest.raises(UserError, match="bound nothing"):
        compare(*runs(4), resamples=10)
