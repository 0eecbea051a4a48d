"""Labels from unlabelled scans: what every view shows, as a set that trains."""

import json

import cv2
import numpy as np
import pytest

from xray_lazy.data.balance import ImageWeights
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.check.kinds import ERROR, KINDS
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.errors import UserError
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction


@pytest.fixture
def predict(run_folder, tmp_path):
    def call(*inputs, **settings):
        settings = {"threshold": 0.3, "device": "cpu", "overlays": False, "pseudo_labels": True} | settings
        run_prediction(PredictOptions(str(run_folder), list(map(str, inputs)), str(tmp_path / "out"), **settings))
        return tmp_path / "out" / "pseudo_labels"

    return call


def boxes_by_name(folder):
    content = json.loads((folder / "annotations.json").read_text())
    names = {one["id"]: one["file_name"] for one in content["images"]}
    found = {name: [] for name in names.values()}
    for one in content["annotations"]:
        found[names[one["image_id"]]].append(one)
    return content, found


def test_kept_is_what_the_mirrored_image_shows_too(predict, run_folder, tiny_set, images, tmp_path, capsys):
    folder = predict(tiny_set / "images")
    assert "are found in every view" in capsys.readouterr().out
    content, found = boxes_by_name(folder)
    every = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert 0 < len(content["annotations"]) < len(every)
    predictor = Predictor.of(run_folder, device="cpu", score_threshold=0.3)
    for image in content["images"]:
        assert 0 < image["weight"] < 1
        mirrored = cv2.imread(str(tiny_set / "images" / image["file_name"]))[:, ::-1]
        view = ImageDetections.of(predictor(np.ascontiguousarray(mirrored)))
        for one in found[image["file_name"]]:
            same = view.classes == one["category_id"] - 1
            x, y, width, height = one["bbox"]
            left, right = np.maximum(64 - view.boxes[:, 2], x), np.minimum(64 - view.boxes[:, 0], x + width)
            overlap = (right - left).clip(0) * (
                np.minimum(view.boxes[:, 3], y + height) - np.maximum(view.boxes[:, 1], y)
            ).clip(0)
            # the set has the masks' boxes, a little other ones than the detections
            assert (same & (overlap > 0.3 * width * height)).any()


def test_the_set_is_checked_and_loaded_with_its_weights(predict, tiny_set):
    folder = predict(tiny_set / "images", threshold=0.1)
    ours = [str(folder / "annotations.json"), str(folder / "images")]
    (report,) = check_sets(open_sets(ours)).sets
    harmless = {"class_not_trained"}
    assert {one.kind for one in report.findings if KINDS[one.kind].severity == ERROR} <= harmless
    pseudo = {"json_file": ours[0], "image_root": ours[1], "name": "pseudo"}
    labelled = {"json_file": str(tiny_set / "annotations.json"), "image_root": str(tiny_set / "images"), "name": "tiny"}
    both = load_datasets([labelled, pseudo])
    times = ImageWeights()(both, np.ones(len(both)))
    weights = [one["weight"] for one in json.loads((folder / "annotations.json").read_text())["images"]]
    assert times.tolist() == [1.0] * (len(both) - len(weights)) + weights


def test_a_second_model_has_to_find_it_too(predict, run_folder, tiny_set):
    alone, _ = boxes_by_name(predict(tiny_set / "images"))
    beside_itself, _ = boxes_by_name(predict(tiny_set / "images", second_model=str(run_folder)))
    assert beside_itself["annotations"] == alone["annotations"], "a model agrees with itself"


def test_only_earlier_pseudo_labels_are_replaced(predict, tiny_set):
    folder = predict(tiny_set / "images")
    predict(tiny_set / "images")
    (folder / "notes").touch()
    with pytest.raises(UserError, match="has notes in it, which is no part of the results"):
        predict(tiny_set / "images")
    assert (folder / "notes").is_file()
    (folder / "annotations.json").rename(folder / "mine.json")
    with pytest.raises(UserError, match="holds no earlier pseudo-labels"):
        predict(tiny_set / "images")
    assert (folder / "mine.json").is_file()


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_that_make_no_sense_are_refused(weight):
    with pytest.raises(UserError, match="has the weight"):
        ImageWeights()([{"file_name": "a.png", "weight": weight}], np.ones(1))
