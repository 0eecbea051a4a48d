"""tools/analyze.py screening: bags of a set, as a person runs it."""

import csv
import json

import cv2
import numpy as np
import pytest

from tests.analysis.cases import GUN, KNIFE, inputs_of, thing
from tests.conftest import ROOT
from tests.data.coco_sets import write_set
from xray_lazy.analysis.screening import froc, screen_inputs
from xray_lazy.analysis.screening_files import warnings_of, write_screening
from xray_lazy.analysis.screening_text import shown_threshold
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import HitRule

BOX, FAR = (10, 10, 20, 20), (70, 70, 20, 20)


def four_bags(**more):
    """Two guns, of which one is found and one marked beside it; two clean bags, of which one alarms."""
    annotations = [thing(1, GUN, BOX), thing(2, GUN, BOX)]
    detections = [
        thing(1, GUN, BOX, score=0.9),
        thing(2, GUN, FAR, score=0.8),
        thing(2, KNIFE, BOX, score=0.3),
        thing(3, GUN, FAR, score=0.5),
    ]
    return inputs_of(annotations, detections, **more)


def test_an_alarm_beside_the_threat_is_told_apart_from_a_detection():
    result = screen_inputs(four_bags(), rates=[0.1, 0.5])
    strict, loose = result.overall.points
    assert (result.bags, result.overall.threats, result.overall.clean) == (4, 2, 2)
    assert (strict.threshold, strict.false_alarms, strict.detection, strict.alarms) == (0.8, 0, 0.5, 1)
    assert (loose.false_alarms, loose.detection) == (0.5, 0.5)
    assert result.any_class.points[1].detection == 1
    assert [(one.name, one.threats, one.clean) for one in result.classes] == [("gun", 2, 2), ("knife", 0, 4)]
    # the gun's bags come first; of the knife there is none
    assert result.class_ap == result.classes[0].ap == 1


def test_images_of_a_bag_are_joined_by_their_names():
    inputs = four_bags()
    for image, name in zip(inputs.ground_truth["images"], ["a_1", "b_1", "a_2", "b_2"], strict=True):
        image["file_name"] = f"scans/{name}.png"
    result = screen_inputs(inputs, group_by="^([a-z])_")
    assert (result.bags, result.overall.threats, result.overall.clean) == (2, 2, 0)
    assert np.isnan(result.overall.points[0].detection) and result.roc == ()
    with pytest.raises(UserError, match="does not fit 4 of 4 file names"):
        screen_inputs(inputs, group_by="^bag")


def test_false_marks_are_counted_per_image():
    # by falling score: right, false, false, false; 4 images, 2 items
    found = froc(four_bags())
    assert found == {0.125: 0.5, 0.25: 0.5, 0.5: 0.5, 1.0: 0.5, 2.0: 0.5, 4.0: 0.5, 8.0: 0.5}
    late = inputs_of([thing(1, GUN, BOX)], [thing(2, GUN, FAR, score=0.9), thing(1, GUN, BOX, score=0.5)])
    assert froc(late)[0.125] == 0 and froc(late)[0.25] == 1


def test_equal_scores_come_together():
    alike = inputs_of([thing(1, GUN, BOX)], [thing(1, GUN, BOX, score=0.5), thing(1, GUN, FAR, score=0.5)], images=1)
    assert froc(alike) == {0.125: 0, 0.25: 0, 0.5: 0, 1.0: 1, 2.0: 1, 4.0: 1, 8.0: 1}


def test_detections_that_do_not_count_make_no_alarm():
    # of one detection per class and image the better one counts, which is beside the gun
    annotations, detections = [thing(1, GUN, BOX)], [thing(1, GUN, FAR, score=0.9), thing(1, GUN, BOX, score=0.8)]
    found = [
        screen_inputs(inputs_of(annotations, detections, max_detections=most)).overall.points[0].detection
        for most in (1, 2)
    ]
    assert found == [0, 1]


@pytest.mark.parametrize("change", [{"score": float("nan")}, {"bbox": [], "segmentation": {}}, {"bbox": None}])
def test_what_is_no_detection_of_a_box_is_refused_in_either_model(change):
    good = four_bags()
    bad = inputs_of(good.ground_truth["annotations"], [{**good.detections[0], **change}])
    for first, second in ((bad, None), (good, bad)):
        with pytest.raises(UserError):
            screen_inputs(first, second)


def test_the_same_model_changes_nothing_and_a_better_one_is_better():
    random = np.random.default_rng(0)
    annotations = [thing(number, GUN, BOX) for number in range(1, 101)]
    weak = [thing(n, GUN, BOX, score=float(random.random())) for n in range(1, 201)]
    strong = [{**one, "score": one["score"] + (one["image_id"] <= 100)} for one in weak]
    first, second = (inputs_of(annotations, detections, images=200) for detections in (weak, strong))
    same = screen_inputs(first, first)
    assert [(one.change, one.low, one.high, one.verdict) for one in same.changes] == [
        (0, 0, 0, "no difference shown")
    ] * 4
    assert {one.verdict for one in screen_inputs(first, second).changes} == {"better"}
    assert screen_inputs(second).overall.area == 1


def test_an_expression_that_joins_all_is_told():
    [note] = warnings_of(screen_inputs(four_bags(), group_by="bag"))
    assert "joins all images into one bag" in note


@pytest.mark.parametrize("score", [0.5, 0.99619699, 0.99999, 1.0, 1e-5, 3.25])
def test_a_threshold_is_shown_not_above_itself_and_written_in_full(tmp_path, score):
    found = screen_inputs(inputs_of([thing(1, GUN, BOX)], [thing(1, GUN, BOX, score=score)]))
    assert 0 <= score - float(shown_threshold(score)) < 0.01 * min(abs(score), abs(1 - score) or 1)
    write_screening(found, tmp_path)
    assert float(next(csv.DictReader((tmp_path / "screening.csv").open()))["threshold"]) == score


def test_equal_boxes_have_any_iou():
    box = (0.1, 0.7, 30.3, 17.9)
    same = inputs_of([thing(1, GUN, box)], [thing(1, GUN, box, score=0.5)])
    assert screen_inputs(same, rule=HitRule(iou=1)).overall.points[0].detection == 1


def test_an_interval_of_few_bags_is_wide():
    [point, *_] = screen_inputs(inputs_of([thing(1, GUN, BOX)], [thing(1, GUN, BOX, score=0.9)])).overall.points
    assert (point.detection, point.detection_high) == (1, 1)
    assert point.detection_low == pytest.approx(0.025)  # exact: one of one


def test_another_rule_finds_more():
    shifted = inputs_of([thing(1, GUN, BOX)], [thing(1, GUN, (19, 10, 20, 20), score=0.5)])
    found = [screen_inputs(shifted, rule=rule).overall.points[0].detection for rule in (HitRule(), HitRule("centre"))]
    assert found == [0, 1]


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """8 images, 2 of them without items, and detections of all items but one."""
    folder = tmp_path_factory.mktemp("bags")
    content = write_set(folder, count=8)
    found = [
        {name: one[name] for name in ("image_id", "category_id", "bbox")} | {"score": 0.9 - 0.1 * number}
        for number, one in enumerate(content["annotations"][1:])
    ]
    (folder / "found.json").write_text(json.dumps(found))
    return folder


def screening(run_tool_here, bags, *arguments):
    given = ("--ground-truth", bags / "annotations.json", *arguments)
    return run_tool_here(ROOT / "tools" / "analyze.py", "screening", *given)


def test_a_screening_is_printed_and_written(run_tool_here, bags):
    run = screening(run_tool_here, bags, bags / "found.json", bags / "found.json", "--resamples", 100)
    assert run.returncode == 0, run.stderr
    assert "8 bags of 8 images, 6 with a threat, 2 clean" in run.stdout
    assert "2 clean bags can't show a P_FA of 1, 2, 5, 10 %" in run.stdout and "299 clean bags could" in run.stdout
    assert "too few threats" in run.stdout and "worse" not in run.stdout
    folder = bags / "analysis" / "found" / "screening"
    written = json.loads((folder / "screening.json").read_text())
    assert [point["detection"] for point in written["overall"]["points"]] == pytest.approx([5 / 6] * 4)
    rows = list(csv.DictReader((folder / "screening.csv").open()))
    assert [row["class"] for row in rows[::4]] == ["all", "all, any class", "gun", "knife"]
    assert cv2.imread(str(folder / "screening.png")).std() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hit", "centre", "--iou", "0.3"], "--iou has no effect with --hit centre"),
        (["--false-alarms", "0"], "0"),
        (["--group-by", "("], "is not a regular expression"),
        (["--images", "nowhere"], "nowhere"),
    ],
)
def test_what_can_not_be_screened_is_one_message(run_tool_here, bags, arguments, message, tmp_path):
    run = screening(run_tool_here, bags, bags / "found.json", *arguments, "--output", tmp_path / "out")
    assert run.returncode == 2 and message in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()
