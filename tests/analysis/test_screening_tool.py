"""tools/analyze.py screening: bags of a set, as a person runs it."""

import csv
import json

import cv2
import numpy as np
import pytest

from tests.analysis.cases import GUN, KNIFE, inputs_of, thing
from tests.conftest import ROOT
from tests.data.coco_sets import write_set
from xray_lazy.analysis.inputs import Inputs, coco_of, load_truth
from xray_lazy.analysis.screening.screening import froc, screen_inputs
from xray_lazy.analysis.screening.screening_files import warnings_of, write_screening
from xray_lazy.analysis.screening.screening_text import shown_threshold
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
    missed_rows = list(csv.DictReader((folder / "missed_items.csv").open()))
    assert [row["at"] for row in missed_rows[:4]] == [f"at P_FA {rate}" for rate in (1, 2, 5, 10)]
    assert "missed items" in run.stdout and {row["by"] for row in missed_rows} >= {"size", "overlap"}


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


def missed(result, by):
    return {one.name: (one.items, one.missed[0].value) for one in result.missed if one.by == by}


def test_missed_items_are_counted_by_size_overlap_occlusion_and_clutter():
    tiny, large = (0, 0, 10, 10), (0, 0, 100, 100)
    annotations = [
        thing(1, GUN, tiny, occlusion="high"),  # lies wholly on the knife
        thing(1, KNIFE, large, occlusion="low"),
        thing(2, GUN, (10, 10, 40, 40), occlusion="low"),
        thing(2, GUN, (0, 0, 90, 90), iscrowd=1),
        thing(3, KNIFE, tiny),
    ]
    detections = [
        thing(1, GUN, tiny, score=0.3),  # below the false alarm
        thing(1, KNIFE, large, score=0.9),
        thing(2, KNIFE, (10, 10, 40, 40), score=0.9),  # as another class: missed
        thing(3, KNIFE, tiny, score=0.8),
        thing(4, GUN, FAR, score=0.5),
    ]
    result = screen_inputs(inputs_of(annotations, detections), rates=[0.1])
    assert result.overall.points[0].threshold == 0.8
    assert missed(result, "size") == {
        "small (below 32 px)": (2, 0.5),
        "medium (32 to 96 px)": (1, 1),
        "large (over 96 px)": (1, 0),
    }
    assert missed(result, "size, in thirds") == {"up to 10 px": (2, 0.5), "10 to 40 px": (1, 1), "over 40 px": (1, 0)}
    assert missed(result, "overlap") == {"free": (2, 0.5), "up to 10 %": (1, 0), "over 50 %": (1, 1)}
    assert missed(result, "occlusion") == {"high": (1, 1), "low": (2, 0.5)}
    assert missed(result, "items in the bag") == {"1 item": (2, 0.5), "2 items": (2, 0.5)}
    [rate] = next(one for one in result.missed if one.name == "1 item").missed
    assert (rate.low, rate.high) == pytest.approx((0.0126, 0.9874), abs=1e-4)  # one of two
    # in no order of images
    mixed = inputs_of(annotations[::-1], detections)
    assert missed(screen_inputs(mixed, rates=[0.1]), "overlap") == missed(result, "overlap")


def test_without_clean_bags_no_item_is_missed_at_a_rate_of_them():
    assert screen_inputs(inputs_of([thing(1, GUN, BOX)], [], images=1)).missed == ()


@pytest.mark.parametrize(
    ("given", "read"),
    [({"occlusion": 2}, 2), ({"attributes": {"occluded": True}}, True), ({"occlusion": [1]}, None), ({}, None)],
)
def test_an_annotated_occlusion_is_read_from_the_file(tmp_path, given, read):
    content = write_set(tmp_path, count=4)
    for annotation in content["annotations"]:
        annotation |= given
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    annotations = coco_of(load_truth(str(tmp_path / "annotations.json")))["annotations"]
    assert annotations and {one.get("occlusion") for one in annotations} == {read}


def test_an_image_that_lost_all_of_its_annotations_is_not_taken_for_a_clean_one(tmp_path):
    content = write_set(tmp_path, count=4)
    (lost,) = [one for one in content["annotations"] if one["image_id"] == content["annotations"][0]["image_id"]]
    lost["bbox"] = [float("nan"), 1, 5, 5]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    truth = coco_of(load_truth(str(tmp_path / "annotations.json"), str(tmp_path / "images")))
    detections = [{"image_id": truth["images"][1]["id"], "category_id": 1, "score": 0.5, "bbox": [1, 1, 5, 5]}]
    inputs = Inputs("val", "a.json", "a", truth, detections, 100, tmp_path)
    with pytest.raises(UserError, match="1 image of val would count as clean"):
        screen_inputs(inputs)
