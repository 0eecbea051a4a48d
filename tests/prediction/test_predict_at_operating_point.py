"""An operating point in use: chosen on a model's detections, it holds in every file of a prediction."""

import csv
import dataclasses
import json
import math
import re

import cv2
import numpy as np
import pytest

from xray_lazy.analysis.inputs import inputs_of_files
from xray_lazy.analysis.screening.fused_views import fit_views, with_fused_views, write_views
from xray_lazy.analysis.screening.operating_point import OperatingPoint
from xray_lazy.analysis.screening.operating_point_choice import choose_operating_point, write_operating_point
from xray_lazy.analysis.screening.screening import screen_inputs
from xray_lazy.data.image_detections import Drawn
from xray_lazy.errors import UserError
from xray_lazy.evaluation.screening.bags import HitRule
from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction
from xray_lazy.visualization.overlay import draw_instances
from xray_lazy.visualization.prediction_images import write_image

RULE = HitRule(iou=0.1)  # random weights hit no better


def predict(run_folder, truth, output, **settings):
    run_prediction(PredictOptions(str(run_folder), [str(truth)], str(output), device="cpu", **settings))
    return json.loads((output / "predictions.json").read_text())


@pytest.fixture(scope="module")
def in_use(run_folder, tiny_set, tmp_path_factory):
    """All detections of the tiny set, a point that was chosen on them, and the folder of a prediction at it."""
    folder, truth = tmp_path_factory.mktemp("point"), tiny_set / "annotations.json"
    predict(run_folder, truth, folder / "all", threshold=0.0, overlays=False)
    inputs = inputs_of(folder / "all", tiny_set)
    chosen = choose_operating_point(inputs, 0.5, RULE)
    point = write_operating_point(chosen, folder)
    predict(run_folder, truth, folder / "used", operating_point=str(point))
    return inputs, chosen, point, folder / "used"


def inputs_of(folder, tiny_set):
    return inputs_of_files(folder / "predictions.json", str(tiny_set / "annotations.json"), str(tiny_set / "images"))


def kept_of(inputs, chosen):
    names = {one["id"]: one["name"] for one in inputs.ground_truth["categories"]}
    return [one for one in inputs.detections if one["score"] >= chosen.thresholds[names[one["category_id"]]]]


def test_what_lies_below_the_thresholds_is_in_no_file(in_use):
    inputs, chosen, _, output = in_use
    kept = kept_of(inputs, chosen)
    assert 0 < len(kept) < len(inputs.detections) and math.inf in chosen.thresholds.values()
    key = lambda one: (one["image_id"], one["category_id"], -one["score"])  # noqa: E731
    for file in ("predictions.json", "annotations.json"):
        content = json.loads((output / file).read_text())
        found = content["annotations"] if isinstance(content, dict) else content
        assert sorted(map(key, found)) == sorted(map(key, kept))
    with open(output / "detections.csv", newline="") as stream:
        scores = [float(row["score"]) for row in csv.DictReader(stream)]
    assert sorted(scores) == sorted(one["score"] for one in kept)


def test_pictures_show_the_kept_detections_alone(in_use, tiny_set, tmp_path):
    *_, output = in_use
    data_set = json.loads((output / "annotations.json").read_text())
    names = tuple(one["name"] for one in data_set["categories"])
    classes = {one["id"]: place for place, one in enumerate(data_set["categories"])}
    drawn = 0
    for image in data_set["images"]:
        own = [one for one in data_set["annotations"] if one["image_id"] == image["id"]]
        scan = cv2.imread(str(tiny_set / "images" / image["file_name"]))
        write_image(tmp_path / "due.jpg", draw_instances(scan, [_drawn(one, classes) for one in own], names))
        due = cv2.imread(str(tmp_path / "due.jpg"))
        found = cv2.imread(str((output / "pictures" / image["file_name"]).with_suffix(".jpg")))
        assert np.abs(found.astype(int) - due).mean() < 1  # boxes in files are rounded
        drawn += bool(own)
    assert 0 < drawn < len(data_set["images"])


def _drawn(annotation, classes):
    x, y, width, height = annotation["bbox"]
    box = (x, y, x + width, y + height)
    return Drawn(classes[annotation["category_id"]], box, annotation["score"], annotation.get("segmentation"))


def test_bags_alarm_as_often_as_the_point_says(in_use, tiny_set):
    inputs, chosen, point, output = in_use
    of_use = inputs_of(output, tiny_set)
    alarming = {one["image_id"] for one in of_use.detections}
    with_items = {one["image_id"] for one in inputs.ground_truth["annotations"]}
    clean = {one["id"] for one in inputs.ground_truth["images"]} - with_items
    assert len(alarming & clean) / len(clean) == chosen.judgement.false_alarms.value > 0
    assert len(alarming & with_items) / len(with_items) == chosen.judgement.alarms.value > 0
    # what is left detects as many
    judged = screen_inputs(of_use, rule=RULE, resamples=10, point=OperatingPoint.read(point)).at_point.judgement
    assert judged.detection.value == chosen.judgement.detection.value > 0


def test_the_summary_counts_them(in_use, run_folder, tiny_set, tmp_path, capsys):
    inputs, chosen, point, _ = in_use
    kept = kept_of(inputs, chosen)
    predict(run_folder, tiny_set / "annotations.json", tmp_path / "out", operating_point=str(point), overlays=False)
    bags = len({one["image_id"] for one in kept})
    assert re.search(rf"^gun +{len(kept)} +{bags} *$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("threshold", "words"),
    [(50, "gun has 50; scores are in 0..1, so gun never alarms"), (-0.1, "always alarms"), (1.0001, "never alarms")],
)
def test_thresholds_that_are_no_scores_are_refused(in_use, run_folder, tiny_set, tmp_path, threshold, words):
    content = json.loads(in_use[2].read_text()) | {"thresholds": {"knife": None, "gun": threshold}}
    (tmp_path / "point.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        predict(run_folder, tiny_set, tmp_path / "out", operating_point=str(tmp_path / "point.json"))
    assert threshold != 50 or "write 0.5 for 50 %" in refused.value.fix
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=re.escape(words)):
        screen_inputs(in_use[0], point=OperatingPoint.read(tmp_path / "point.json"))


def test_scores_on_another_scale_have_thresholds_there(in_use):
    inputs, chosen, point, _ = in_use
    percent = [{**one, "score": 100 * one["score"]} for one in inputs.detections]
    content = json.loads(point.read_text())
    threshold = 100 * chosen.thresholds["gun"]
    point_of_percent = OperatingPoint("percent", {"gun": threshold, "knife": math.inf}, 0.5, content["chosen_on"])
    scaled = dataclasses.replace(inputs, detections=percent)
    judged = screen_inputs(scaled, rule=RULE, resamples=10, point=point_of_percent).at_point.judgement
    assert judged.alarms.value == chosen.judgement.alarms.value


@pytest.fixture(scope="module")
def pairs(tiny_set, tmp_path_factory):
    """The tiny set as bags of two views, whose images do not follow one another."""
    folder = tmp_path_factory.mktemp("pairs")
    content = json.loads((tiny_set / "annotations.json").read_text())
    for number, image in enumerate(content["images"]):
        image |= {"bag": f"bag {number % 4}", "view": str(number // 4)}
    (folder / "annotations.json").write_text(json.dumps(content))
    (folder / "images").symlink_to(tiny_set / "images")
    return folder


def test_views_are_fused_before_the_thresholds_of_their_point(run_folder, pairs, tmp_path):
    truth = pairs / "annotations.json"
    predict(run_folder, truth, tmp_path / "all", threshold=0.0, overlays=False)
    inputs = inputs_of(tmp_path / "all", pairs)
    weights = json.loads(write_views(fit_views(inputs, RULE, None, "none"), None, tmp_path).read_text())
    fused = with_fused_views(inputs, weights, "weights", None)
    thresholds = {"gun": float(np.median([one["score"] for one in fused.detections])), "knife": math.inf}
    point = {"schema": 1, "thresholds": thresholds | {"knife": None}, "false_alarms": 0.1, "chosen_on": {}}
    (tmp_path / "point.json").write_text(json.dumps(point | {"view_fusion": weights}))
    found = predict(run_folder, truth, tmp_path / "used", operating_point=str(tmp_path / "point.json"), overlays=False)
    due = [one for one in fused.detections if one["score"] >= thresholds["gun"] and one["category_id"] == 1]
    key = lambda one: (one["image_id"], *one["bbox"])  # noqa: E731
    found, due = sorted(found, key=key), sorted(due, key=key)
    assert 0 < len(due) < len(inputs.detections) and list(map(key, found)) == list(map(key, due))
    np.testing.assert_allclose([one["score"] for one in found], [one["score"] for one in due], atol=1e-6)
    with open(tmp_path / "used/bags.csv", newline="") as stream:
        rows = {row["bag"]: row for row in csv.DictReader(stream)}
    bag_of = {image["id"]: image["bag"] for image in inputs.ground_truth["images"]}
    assert len(rows) == 4 and {row["pictures"] for row in rows.values()} == {"2"}
    assert {bag for bag, row in rows.items() if row["alarm"] == "yes"} == {bag_of[one["image_id"]] for one in due}


def test_a_point_of_fused_views_needs_bags(run_folder, pairs, tmp_path):
    weights = {"axis": "none", "weights": {name: [0, 1, 0, 0] for name in ("gun", "knife")}, "group_by": ""}
    weights["alone"] = {name: [0, 1] for name in ("gun", "knife")}
    point = {"schema": 1, "thresholds": {"gun": 0.5, "knife": 0.5}, "false_alarms": 0.1, "chosen_on": {}}
    (tmp_path / "point.json").write_text(json.dumps(point | {"view_fusion": weights}))
    options = {"operating_point": str(tmp_path / "point.json"), "overlays": False}
    with pytest.raises(UserError, match="no two of the images are known to be of one bag"):
        predict(run_folder, pairs / "images", tmp_path / "out", **options)
    with pytest.raises(UserError, match="--pseudo-labels are of single images"):
        predict(run_folder, pairs / "annotations.json", tmp_path / "out", pseudo_labels=True, **options)
    predict(run_folder, pairs / "images", tmp_path / "out", group_by="^(bag)_", **options)
    assert (tmp_path / "out/bags.csv").read_text().splitlines()[1].startswith("bag,8,")
