"""Analyses of cases that can be counted by hand, and of wild ones."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.analysis.cases import CATEGORIES, GUN, KNIFE, every_error, inputs_of, thing
from xray_lazy.analysis.analyzing import analyze
from xray_lazy.analysis.error_kinds import MEANINGS, classify
from xray_lazy.analysis.findings import findings
from xray_lazy.analysis.precision_curves import average_precision, by_falling_score
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import coco_metrics, hotcoco_evaluation
from xray_lazy.evaluation.matching import find_mistakes


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_each_kind_of_error_is_counted_as_by_hand(task):
    result = analyze(inputs_of(*every_error(), masks=True), score_threshold=0.5).tasks[task]
    assert {kind.name: kind.count for kind in result.errors.kinds} == {
        "Cls": 1,
        "Loc": 1,
        "Both": 1,
        "Dupe": 1,
        "Bkg": 1,
        "Miss": 2,  # the fifth gun; the knife that only a Both is near. The others would be found with a correction
    }
    gun, knife = result.classes
    assert gun.errors == {"Cls": 1, "Loc": 1, "Both": 1, "Dupe": 1, "Bkg": 0, "Miss": 1}
    assert knife.errors == {"Cls": 0, "Loc": 0, "Both": 0, "Dupe": 0, "Bkg": 1, "Miss": 1}


def test_errors_below_the_score_threshold_are_counted_apart():
    kinds = {kind.name: kind for kind in analyze(inputs_of(*every_error()), 0.82).main.errors.kinds}
    assert {name: kind.count_shown for name, kind in kinds.items()} == {
        "Cls": 1, "Loc": 0, "Both": 0, "Dupe": 1, "Bkg": 0, "Miss": 2,
    }  # fmt: skip
    assert analyze(inputs_of(*every_error()), 0.82).main.classes[0].errors_shown["Loc"] == 0


def test_what_an_error_costs_is_ap50_without_it_less_ap50_with_it():
    annotations = [thing(1, GUN, (0, 0, 20, 20)), thing(2, GUN, (0, 0, 20, 20))]
    found = [
        thing(1, GUN, (0, 10, 20, 20), score=0.9),  # IoU 1/3
        thing(2, GUN, (0, 0, 20, 20), score=0.8),
    ]
    errors = analyze(inputs_of(annotations, found)).main.errors
    # one of two found behind one false: precision 1/2 at the recalls 0 to 0.5, which are 51 of 101
    assert errors.ap50 == pytest.approx(100 * 51 / 101 / 2)
    lost = {kind.name: kind.lost_ap for kind in errors.kinds}
    assert lost["Loc"] == pytest.approx(100 - errors.ap50)
    assert [lost[name] for name in ("Cls", "Both", "Dupe", "Bkg", "Miss")] == [0] * 5
    assert errors.lost_to_false == pytest.approx(100 * 51 / 101 / 2)  # precision 1 up to the recall 0.5


def test_an_item_that_nothing_is_near_is_missed():
    errors = analyze(inputs_of([thing(1, GUN, (0, 0, 9, 9)), thing(2, GUN, (0, 0, 9, 9))],
                               [thing(1, GUN, (0, 0, 9, 9), score=0.9)])).main.errors  # fmt: skip
    assert errors.kinds[-1].count == 1
    assert errors.kinds[-1].lost_ap == errors.lost_to_missed == pytest.approx(100 * 50 / 101)


def test_detections_on_a_crowd_are_neither_right_nor_wrong():
    annotations = [thing(1, GUN, (0, 0, 50, 50), iscrowd=1), thing(1, GUN, (60, 60, 20, 20))]
    found = [thing(1, GUN, (5, 5, 10, 10), score=0.9), thing(1, GUN, (60, 60, 20, 20), score=0.8)]
    analysis = analyze(inputs_of(annotations, found))
    result = analysis.main
    assert (analysis.instances, analysis.crowds) == (1, 1)
    assert sum(kind.count for kind in result.errors.kinds) == 0
    assert result.curve.best_f1 == 1
    assert sum(one.count for one in result.calibration.bins) == 1
    assert result.label_suspects == () and result.worst_pictures == ()


def test_the_best_threshold_keeps_what_raises_f1_and_no_more():
    annotations = [thing(image, GUN, (0, 0, 20, 20)) for image in (1, 2, 3)]
    found = [
        thing(1, GUN, (0, 0, 20, 20), score=0.9),
        thing(2, GUN, (0, 0, 20, 20), score=0.7),
        thing(4, GUN, (0, 0, 20, 20), score=0.7),
        thing(1, GUN, (50, 50, 20, 20), score=0.2),
        thing(3, GUN, (0, 0, 20, 20), score=0.1),
    ]
    curve = analyze(inputs_of(annotations, found)).main.classes[0].curve
    # the two of 0.7 come together: 2 of 3 are right and 2 of 3 are found
    assert curve.scores == (0.9, 0.7, 0.2, 0.1)
    assert curve.precision == pytest.approx((1, 2 / 3, 1 / 2, 3 / 5))
    assert curve.recall == pytest.approx((1 / 3, 2 / 3, 2 / 3, 1))
    assert curve.f1 == pytest.approx((1 / 2, 2 / 3, 4 / 7, 3 / 4))
    assert (curve.best_threshold, curve.best_f1) == (0.1, pytest.approx(3 / 4))


def test_calibration_is_counted_as_by_hand():
    annotations = [thing(image, GUN, (0, 0, 20, 20)) for image in (1, 2, 3)]
    found = [
        thing(1, GUN, (0, 0, 20, 20), score=0.95),
        thing(2, GUN, (50, 50, 20, 20), score=0.93),
        thing(3, GUN, (0, 0, 20, 20), score=0.25),
    ]
    calibration = analyze(inputs_of(annotations, found)).main.calibration
    # 0.94 where a half is right, 0.25 where all are
    assert calibration.ece == pytest.approx((2 * 0.44 + 1 * 0.75) / 3)
    assert calibration.largest_error == pytest.approx(0.75)
    assert (calibration.bins[9].count, calibration.bins[9].share_right) == (2, 0.5)
    assert math.isnan(calibration.bins[5].share_right)


@pytest.mark.parametrize(
    ("detections", "told"),
    [
        ([(0.75, 40, 30)], ""),  # as often as they say
        ([(0.75, 24, 14)], ""),  # 0.17 lower, as chance may have it
        ([(0.95, 1, 0)], ""),
        ([(0.75, 400, 232)], "scores are 0.17 higher than"),
        ([(0.35, 400, 232)], "scores are 0.23 lower than"),
        ([(0.75, 200, 150), (0.25, 200, 50)], ""),
        ([(0.55, 200, 200), (0.45, 200, 0)], "higher than the share that is right in some ranges and lower in others"),
    ],
)
def test_calibration_is_told_where_it_is_off_beyond_chance(detections, told):
    """Of (score, detections with it, right ones among them)."""
    scored = [(score, number < right) for score, count, right in detections for number in range(count)]
    annotations = [thing(image, GUN, (0, 0, 20, 20)) for image in range(1, len(scored) + 1)]
    found = [
        thing(image, GUN, (0, 0, 20, 20) if is_right else (60, 60, 20, 20), score=score)
        for image, (score, is_right) in enumerate(scored, 1)
    ]
    sentences = findings(analyze(inputs_of(annotations, found, images=len(scored))))
    of_scores = [one for one in sentences if "ECE" in one]
    assert len(of_scores) == bool(told) and all(told in one for one in of_scores)


def test_scores_that_are_no_probabilities_have_no_calibration():
    found = [thing(1, GUN, (0, 0, 20, 20), score=7.5)]
    result = analyze(inputs_of([thing(1, GUN, (0, 0, 20, 20))], found)).main
    assert math.isnan(result.calibration.ece) and result.calibration.bins == ()
    assert result.curve.best_threshold == 7.5


def test_occlusion_is_the_share_under_other_items():
    from xray_lazy.analysis.groups import occlusion

    boxes = [(0, 0, 10, 10), (5, 0, 10, 10), (0, 5, 10, 10), (50, 50, 10, 10)]
    annotations = [thing(1, GUN, box, iscrowd=0) for box in boxes]
    # the first lies under two that overlap in a quarter of it
    expected = [0.75, 0.5, 0.5, 0]
    assert occlusion(annotations) == pytest.approx(np.array(expected))
    with_masks = inputs_of(annotations, [], masks=True).ground_truth["annotations"]
    assert occlusion(with_masks) == pytest.approx(np.array(expected))
    alone = [{**annotations[0], "image_id": 2}, annotations[1], {**annotations[0], "iscrowd": 1}]
    assert occlusion(alone).tolist() == [0, 0, 0]


def test_items_are_grouped_by_their_occlusion():
    annotations = [
        thing(1, GUN, (0, 0, 20, 20)),
        thing(1, KNIFE, (16, 0, 20, 20)),  # the two share a fifth
        thing(2, GUN, (0, 0, 20, 20)),
    ]
    found = [thing(2, GUN, (0, 0, 20, 20), score=0.9), thing(1, KNIFE, (16, 0, 20, 20), score=0.3)]
    free, touched = analyze(inputs_of(annotations, found), 0.5).main.by_occlusion
    assert (free.name, free.instances, free.images) == ("free", 1, 1)
    assert (free.ap, free.ar, free.found) == (pytest.approx(100), 100, 1)
    assert (touched.name, touched.instances, touched.images) == ("10 to 30 %", 2, 1)
    # the knife is found at all thresholds, the gun never; the gun that is found is of another degree
    assert (touched.ap, touched.ar, touched.found) == (pytest.approx(50), 50, 0)


def test_sizes_are_those_of_coco_in_finer_steps():
    annotations, found = every_error()
    annotations.append(thing(3, GUN, (0, 0, 90, 90)))
    found.append(thing(3, GUN, (0, 0, 90, 90), score=0.6))
    groups = analyze(inputs_of(annotations, found)).main.by_size
    assert [(group.name, group.instances) for group in groups] == [
        ("16 to 32 px (small)", 6),
        ("64 to 96 px (medium)", 1),
    ]
    summary = analyze(inputs_of(annotations, found)).main.summary
    assert groups[0].ap == pytest.approx(summary["APs"])
    assert groups[1].ap == pytest.approx(summary["APm"]) == pytest.approx(100)


def test_a_scanner_counts_as_if_its_images_were_all():
    annotations, found = every_error()
    analysis = analyze(inputs_of(annotations, found, scanners=["smith", "rapiscan", "smith", "smith"]))
    rapiscan, smith = analysis.main.by_scanner
    assert (rapiscan.name, rapiscan.images, rapiscan.instances, rapiscan.ap) == ("rapiscan", 1, 1, pytest.approx(100))
    assert (smith.name, smith.images, smith.instances) == ("smith", 3, 5)
    assert smith.ap == analyze(inputs_of(annotations[:5], found[:6])).main.summary["AP"]
    few = analyze(inputs_of(annotations, found, max_detections=2)).main
    assert few.by_scanner[0].ar == few.summary["AR2"]  # all are of one scanner


def test_confusions_and_worst_images_are_of_the_threshold():
    result = analyze(inputs_of(*every_error()), 0.5).main
    assert result.confusion.names == ("gun", "knife", "background")
    assert result.confusion.counts == ((2, 0, 2), (1, 0, 1), (3, 1, 0))
    assert [(p.image_id, p.found, p.missed, p.false) for p in result.worst_pictures] == [(1, 1, 4, 5)]


def test_labels_are_suspected_where_a_sure_detection_contradicts_them():
    annotations = [thing(1, KNIFE, (0, 0, 20, 20)), thing(1, GUN, (0, 40, 20, 20)), thing(2, GUN, (0, 0, 20, 20))]
    found = [
        thing(1, GUN, (0, 0, 20, 20), score=0.9),  # annotated as a knife
        thing(1, GUN, (0, 50, 20, 20), score=0.8),  # annotated elsewhere
        thing(1, KNIFE, (80, 80, 10, 10), score=0.7),  # nothing annotated
        thing(2, GUN, (0, 0, 20, 20), score=0.95),
        thing(2, GUN, (0, 12, 20, 20), score=0.85),  # but this gun has been found: its label is right
        thing(3, GUN, (0, 0, 20, 20), score=0.3),  # not sure enough
    ]
    suspects = analyze(inputs_of(annotations, found), 0.5).main.label_suspects
    assert [(s.kind, s.image_id, s.annotation_id, s.annotated_class) for s in suspects] == [
        ("class", 1, 1, "knife"),
        ("location", 1, 2, "gun"),
        ("missing", 1, None, None),
    ]
    assert suspects[1].iou == pytest.approx(1 / 3)


@st.composite
def wild(draw):
    """Ground truths and detections of all sorts: empty, crowds, ties, classes that only one side has, tiny boxes."""
    edges = st.integers(0, 60)
    sides = st.integers(1, 40)
    boxes = st.tuples(edges, edges, sides, sides)
    classes = st.sampled_from([GUN, KNIFE])
    annotations = draw(
        st.lists(st.builds(lambda p, c, b, k: thing(p, c, b, iscrowd=k), st.integers(1, 3), classes, boxes,
                           st.sampled_from([0, 0, 0, 1])), max_size=8)
    )  # fmt: skip
    scores = st.sampled_from([0.05, 0.3, 0.5, 0.5, 0.75, 0.9, 1.0])
    free = st.builds(lambda p, c, b, s: thing(p, c, b, score=s), st.integers(1, 4), classes, boxes, scores)
    found = draw(st.lists(free, max_size=8))
    for one in draw(st.lists(st.sampled_from(annotations), max_size=5)) if annotations else ():
        x, y, w, h = one["bbox"]
        moved = (x + draw(st.integers(0, 12)), y + draw(st.integers(0, 12)), w, h)
        found.append(thing(one["image_id"], draw(classes), moved, score=draw(scores)))
    return annotations, found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wild(), st.booleans())
def test_any_case_can_be_analyzed_and_agrees_with_the_libraries(case, masks):
    inputs = inputs_of(*case, masks=masks)
    analysis = analyze(inputs)
    json.loads(json.dumps(analysis.as_json(), allow_nan=False))
    for task, result in analysis.tasks.items():
        matching = inputs.matching(task)
        matches = matching.matches
        assert_tide_agrees(matching)
        metrics = coco_metrics(inputs.ground_truth, inputs.detections, task)
        assert_ap_agrees(matches, metrics)
        assert str(matching.metrics) == str(metrics)  # NaN is not equal to itself
        assert_mistakes_agree(matching, inputs, task)
        items = sum(not one["iscrowd"] for one in inputs.ground_truth["annotations"])
        for groups in (result.by_size, result.by_scanner, result.by_occlusion):
            assert sum(group.instances for group in groups) == items
        assert sum(map(sum, result.confusion.counts[:-1])) == items
        wrong = int(matches.wrong[0].sum())
        assert sum(kind.count for kind in result.errors.kinds[:-1]) == wrong
        assert sum(sum(list(one.errors.values())[:-1]) for one in result.classes) == wrong


def assert_tide_agrees(matching):
    """Our kinds of single detections and items, against hotcoco's counts."""
    evaluation = hotcoco_evaluation(matching.without_crowds())
    evaluation.evaluate()
    table = classify(matching)
    ours = {name: int((table.kind == name).sum()) for name in MEANINGS} | {"Miss": int(table.missed.sum())}
    assert ours == evaluation.tide_errors()["counts"]


def assert_mistakes_agree(matching, inputs, task):
    """Those of a threshold are the same whether detections below it were matched, too, or left out before."""
    for threshold in (0.0, 0.4, 0.75):
        of_all, of_shown = (
            matching.mistakes(threshold),
            find_mistakes(inputs.ground_truth, inputs.detections, task, threshold),
        )
        assert of_all.confusion.tolist() == of_shown.confusion.tolist() and of_all.images == of_shown.images


def assert_ap_agrees(matches, metrics):
    for category, expected in enumerate(metrics.categories):
        rows = by_falling_score(matches, category)
        once, instances = np.ones((1, len(rows)), int), np.array([expected.instances])
        thresholds = zip(matches.right[:, rows], matches.wrong[:, rows], strict=True)
        ap = [average_precision(right, wrong, once, instances)[0] for right, wrong in thresholds]
        assert 100 * np.mean(ap) == pytest.approx(expected.ap, nan_ok=True)


@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_the_summary_is_that_of_pycocotools(task, capsys):
    inputs = inputs_of(*every_error(), masks=True)
    truth = COCO()
    truth.dataset = {**inputs.ground_truth, "info": {}}
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes([dict(one) for one in inputs.detections]), task)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    summary = analyze(inputs).tasks[task].summary
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    expected = [100 * value if value >= 0 else math.nan for value in evaluation.stats]
    assert [summary[name] for name in names] == pytest.approx(expected, nan_ok=True)


def test_without_detections_everything_is_missed():
    annotations, _ = every_error()
    analysis = analyze(inputs_of(annotations, []))
    result = analysis.tasks["bbox"]
    assert (analysis.detections, analysis.images_without_detections) == (0, 4)
    assert (result.summary["AP"], result.errors.kinds[-1].count, result.score_threshold) == (0, 6, 0.5)
    assert result.curve.scores == () and math.isnan(result.classes[0].curve.best_threshold)


def test_detections_without_a_shape_in_common_are_refused():
    annotations, detections = every_error()
    with pytest.raises(UserError, match="neither all a box, nor all a mask"):
        analyze(inputs_of(annotations, [*detections[1:], {**detections[0], "bbox": None}]))


def test_without_ground_truth_nothing_is_measured_and_all_is_false():
    _, detections = every_error()
    result = analyze(inputs_of([], detections)).main
    assert math.isnan(result.summary["AP"]) and math.isnan(result.errors.ap50)
    assert {kind.name: kind.count for kind in result.errors.kinds}["Bkg"] == 7
    assert result.by_size == result.by_occlusion == ()
    assert [one.name for one in result.classes] == [category["name"] for category in CATEGORIES]
