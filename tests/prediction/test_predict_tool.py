"""tools/predict.py as a person uses it."""

import csv
import json
import os
import re
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from tests.engine.quick_processes import run_tool
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.convert import convert
from xray_lazy.engine.trained_model import load_trained_model
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.export.export_model import ExportOptions, export_model
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction

ROOT = Path(__file__).parent.parent.parent
THRESHOLD = 0.3


@pytest.fixture
def predict(run_folder, tmp_path):
    """Predict in this process; returns the folder of the results."""

    def call(*inputs, model=run_folder, **settings):
        settings = {"threshold": THRESHOLD, "device": "cpu", "batch_size": 2} | settings
        run_prediction(PredictOptions(str(model), [str(i) for i in inputs], str(tmp_path / "out"), **settings))
        return tmp_path / "out"

    return call


def tool(*arguments):
    return run_tool(ROOT / "tools" / "predict.py", *arguments)


def table(folder):
    with open(folder / "detections.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def read(path):
    return json.loads(path.read_text())


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_output_folder_and_images_are_enough(run_folder, images, tmp_path):
    (tmp_path / "broken.png").write_text("broken")
    output = tmp_path / "out"
    flags = ["--output", output, "--threshold", THRESHOLD, "--device", "cpu"]
    answer = tool(run_folder, images[0], tmp_path / "broken.png", images[1], *flags)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"2 images in [\d.]+ s \([\d.]+ images/s\), 1 skipped", answer.stdout)
    assert "gun" in answer.stdout and "broken.png" in answer.stderr and "Traceback" not in answer.stderr
    assert files(output) == [
        ".written",
        "annotations.json",
        "detections.csv",
        "pictures/bag_0.jpg",
        "pictures/bag_1.jpg",
        "predictions.json",
    ]


def test_files_agree_with_each_other_and_load_as_coco(predict, tiny_set):
    output = predict(tiny_set / "images")
    results, rows = read(output / "predictions.json"), table(output)
    assert len(results) == len(rows) > 0 and all(result["score"] >= THRESHOLD for result in results)
    data_set = COCO(str(output / "annotations.json"))
    assert [data_set.imgs[n]["file_name"] for n in sorted(data_set.imgs)] == [f"bag_{n}.png" for n in range(8)]
    for result, row in zip(results, rows, strict=True):
        assert row["picture"] == data_set.imgs[result["image_id"]]["file_name"] and row["frame"] == ""
        assert row["class"] == data_set.cats[result["category_id"]]["name"]
        assert [float(row[name]) for name in ("x", "y", "width", "height")] == result["bbox"]
        assert float(row["score"]) == result["score"]
        assert result["segmentation"]["size"] == [48, 64]
        assert int(row["mask_area"]) == mask_util.area(result["segmentation"])
    assert len(data_set.anns) == len(results)
    assert read_coco(output / "annotations.json")["categories"] == [
        {"id": 1, "name": "gun"},
        {"id": 2, "name": "knife"},
    ]


def test_a_coco_file_lends_its_ids(predict, tiny_set):
    output = predict(tiny_set / "annotations.json")
    results = read(output / "predictions.json")
    assert {result["image_id"] for result in results} <= set(range(10, 18))
    assert {result["category_id"] for result in results} <= {1, 3}
    # which is what evaluation needs
    assert len(COCO(str(tiny_set / "annotations.json")).loadRes(results).anns) == len(results)


def test_ground_truth_is_drawn_beside_and_lends_its_ids_to_the_images_it_knows(predict, tiny_set, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("bag_1.png", "other.png"):
        shutil.copy(tiny_set / "images" / "bag_1.png", folder / name)
    alone = cv2.imread(str(predict(folder) / "pictures" / "bag_1.jpg"))
    output = predict(folder, ground_truth=str(tiny_set / "annotations.json"))
    images = {image["file_name"]: image["id"] for image in read(output / "annotations.json")["images"]}
    assert images == {"bag_1.png": 11, "other.png": 12}
    known, unknown = (cv2.imread(str(output / "pictures" / f"{name}.jpg")) for name in ("bag_1", "other"))
    assert known.shape == unknown.shape and known.shape[1] > 2 * alone.shape[1] and known.shape[0] > alone.shape[0]
    height, width = alone.shape[:2]
    # the right half is what is drawn without it, but for JPEG
    right, left = (np.abs(half[-height:].astype(int) - alone).mean() for half in (known[:, -width:], known[:, :width]))
    assert right < 6 < left
    assert np.abs(known[-height:, :width].astype(int) - unknown[-height:, :width]).mean() > 1


def test_ids_of_the_ground_truth_are_not_given_to_others(predict, tiny_set, images, tmp_path):
    stranger = shutil.copy(images[0], tmp_path / "stranger.png")
    output = predict(stranger, images[7], ground_truth=str(tiny_set / "annotations.json"))
    ids = {image["file_name"]: image["id"] for image in read(output / "annotations.json")["images"]}
    assert ids == {"stranger.png": 18, "bag_7.png": 17}


def test_grey_takes_the_colours_away(predict, images):
    image = cv2.imread(str(predict(images[0], threshold=1.0) / "pictures" / "bag_0.jpg"))
    grey = cv2.imread(str(predict(images[0], threshold=1.0, grey=True) / "pictures" / "bag_0.jpg"))
    assert np.ptp(image.astype(int), axis=2).max() > 50 > 12 > np.ptp(grey.astype(int), axis=2).max()


@pytest.fixture
def belt(images, tmp_path):
    path = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for image in images[:7]:
        writer.write(cv2.imread(str(image)))
    writer.release()
    return path


def test_a_video_for_browsers(run_folder, belt, tmp_path):
    output = tmp_path / "out"
    answer = tool(run_folder, belt, "--video-format", "webm", "--output", output, "--device", "cpu")
    assert answer.returncode == 0, answer.stderr
    assert files(output) == ["detections.csv", "videos/belt.json", "videos/belt.webm"]
    content = (output / "videos" / "belt.webm").read_bytes()
    assert content.startswith(bytes.fromhex("1a45dfa3")) and b"V_VP8" in content  # of Matroska and WebM
    assert cv2.VideoCapture(str(output / "videos" / "belt.webm")).get(cv2.CAP_PROP_FRAME_COUNT) == 7


def test_a_video_becomes_a_video_and_a_list_by_frame(predict, belt):
    output = predict(belt)
    assert files(output) == ["detections.csv", "videos/belt.json", "videos/belt.mp4"]
    record = read(output / "videos" / "belt.json")
    assert (record["fps"], record["width"], record["height"]) == (5, 64, 48)
    assert [frame["frame"] for frame in record["frames"]] == list(range(7))
    assert record["frames"][3]["seconds"] == pytest.approx(0.6)
    counts = [len(frame["detections"]) for frame in record["frames"]]
    assert [sum(row["frame"] == str(number) for row in table(output)) for number in range(7)] == counts
    assert sum(counts) > 0 and {"class", "category_id", "score", "bbox", "segmentation"} == set(
        next(item for frame in record["frames"] for item in frame["detections"])
    )
    capture = cv2.VideoCapture(str(output / "videos" / "belt.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7 and capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)


def test_a_video_that_the_disk_does_not_take_is_no_fault_of_the_input(predict, belt, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # bytes of a file, as if no more were free
    try:
        with pytest.raises(RunFailure, match="was not written to its end"):
            predict(belt)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.rglob("belt.mp4"))


def test_a_video_that_breaks_off_is_told_and_marked(predict, belt, capfd):
    belt.write_bytes(belt.read_bytes()[: belt.stat().st_size // 2])
    record = read(predict(belt) / "videos" / "belt.json")
    assert 0 < len(record["frames"]) < 7 and record["missing_frames"] == 7 - len(record["frames"])
    assert "belt.avi breaks off" in " ".join(capfd.readouterr().err.split())


def test_the_names_in_annotations_are_those_of_the_files(predict, images, tmp_path):
    scans, elsewhere = tmp_path / "scans", tmp_path / "elsewhere"
    for path in (scans / "bag.bmp", scans / "bag.png", scans / "deep" / "bag.tiff", elsewhere / "bag.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.imread(str(images[0])))
    output = predict(scans, elsewhere)
    names = [image["file_name"] for image in read(output / "annotations.json")["images"]]
    assert len(set(names)) == 4 and all((scans / name).is_file() for name in names)
    assert {row["picture"] for row in table(output)} == set(names)
    assert len(list((output / "pictures").rglob("*.jpg"))) == 4


def test_pre_annotations_hold_what_was_found_and_come_back_by_convert(predict, images, tmp_path):
    output = predict(*images[:2], overlays=False, pre_annotations="label_studio")
    folder = output / "pre_annotations" / "label_studio"
    tasks = read(folder / "tasks.json")
    scores = [region["score"] for task in tasks for region in task["predictions"][0]["result"]]
    assert sorted(scores) == sorted(one["score"] for one in read(output / "predictions.json")) and scores
    converted = convert("label_studio", str(folder)).content
    assert [one["file_name"] for one in converted["images"]] == [image.name for image in images[:2]]
    assert len(converted["annotations"]) == len(scores)
    predict(images[1], overlays=False, pre_annotations="label_studio")
    assert len(read(folder / "tasks.json")) == 1
    (folder / "tasks.json").unlink()
    with pytest.raises(UserError, match="no earlier export for Label Studio"):
        predict(images[1], overlays=False, pre_annotations="label_studio")


def test_a_class_name_that_labels_can_not_hold_is_refused_before_the_work(predict, images, monkeypatch):
    monkeypatch.setattr(Predictor, "class_names", property(lambda self: ("gun", "kni\nfe")))
    with pytest.raises(UserError, match="line break or another control character"):
        predict(images[0], overlays=False, pre_annotations="cvat")


def test_pre_annotations_need_images(predict, belt):
    with pytest.raises(UserError, match="only videos are given"):
        predict(belt, pre_annotations="cvat")
    with pytest.raises(UserError, match="threat reports are of images"):
        predict(belt, threat_reports=True)


@pytest.mark.parametrize("size", [(3000, 2), (2, 3000), (1, 1)])
def test_a_very_thin_image_is_looked_at_as_others(predict, images, tmp_path, size):
    cv2.imwrite(str(tmp_path / "thin.png"), np.full((*size, 3), 200, np.uint8))
    content = read(predict(images[0], tmp_path / "thin.png", threshold=0) / "annotations.json")
    assert [image["file_name"] for image in content["images"]] == ["bag_0.png", "thin.png"]


def test_without_images_only_tables_are_written(predict, images):
    assert files(predict(images[0], overlays=False)) == [
        ".written",
        "annotations.json",
        "detections.csv",
        "predictions.json",
    ]


def test_weights_and_overrides_change_the_model(predict, run_folder, tmp_path, images):
    found = read(predict(images[0], threshold=0) / "predictions.json")
    few = read(predict(images[0], threshold=0, overrides=["model.roi_heads.box_predictor.test_topk_per_image=2"])
               / "predictions.json")  # fmt: skip
    assert len(few) == 2 < len(found)
    before = tmp_path / "moved.pth"
    shutil.copy(run_folder / "model_final.pth", before)
    config = ROOT / "tests" / "engine" / "tiny.py"
    assert read(predict(images[0], model=config, weights=str(before), threshold=0) / "predictions.json") == found


def written_point(path, thresholds):
    content = {"schema": 1, "thresholds": thresholds, "false_alarms": 0.05, "chosen_on": {}}
    path.write_text(json.dumps(content))
    return str(path)


def test_an_operating_point_has_a_threshold_for_each_class(predict, images, tmp_path):
    all_found = table(predict(*images, threshold=0.0, overlays=False))
    by_class = {}
    for row in all_found:
        by_class.setdefault(row["class"], []).append(float(row["score"]))
    (first, scores), *others = by_class.items()
    middle = sorted(scores)[len(scores) // 2]
    names = {one["name"]: None for one in read(tmp_path / "out" / "annotations.json")["categories"]}
    point = written_point(tmp_path / "point.json", names | {first: middle})
    kept = table(predict(*images, operating_point=point, overlays=False))
    assert others and 0 < len(kept) < len(scores)
    assert kept == [row for row in all_found if row["class"] == first and float(row["score"]) >= middle]


def test_an_operating_point_of_other_classes_is_refused(predict, images, tmp_path):
    with pytest.raises(UserError, match="does not fit the classes of the model"):
        predict(images[0], operating_point=written_point(tmp_path / "point.json", {"guns": 0.5}))
    assert not (tmp_path / "out").exists()


def test_an_exported_model_finds_the_same(predict, run_folder, images, tmp_path):
    expected = read(predict(*images[:3]) / "predictions.json")
    file = tmp_path / "tiny.onnx"
    export_model(ExportOptions(str(run_folder), "onnx", str(file), images=[str(images[0])]), lambda line: None)
    output = predict(*images[:3], model=file)
    found = read(output / "predictions.json")
    assert [(f["image_id"], f["category_id"]) for f in found] == [(e["image_id"], e["category_id"]) for e in expected]
    assert np.abs(np.array([f["bbox"] for f in found]) - [e["bbox"] for e in expected]).max() < 0.1
    assert np.abs(np.array([f["score"] for f in found]) - [e["score"] for e in expected]).max() < 1e-3
    assert {row["class"] for row in table(output)} <= {"gun", "knife"}
    with pytest.raises(UserError, match="takes no --weights"):
        predict(images[0], model=file, weights="other.pth")


def test_a_model_that_nothing_names_the_classes_of_numbers_them(predict, run_folder, images, tmp_path, monkeypatch):
    nameless = shutil.copytree(run_folder, tmp_path / "nameless")
    config = (nameless / "config.yaml").read_text()
    (nameless / "config.yaml").write_text(config.replace(str(os.environ["TINY_SET"]), "/nowhere"))
    assert load_trained_model(nameless, device="cpu").class_names == ()
    output = predict(images[0], model=nameless)
    assert {row["class"] for row in table(output)} <= {"class 0", "class 1"} and table(output)


def test_when_nothing_can_be_read_the_exit_code_is_2_and_nothing_is_written(run_folder, tmp_path):
    for name in ("broken.png", "broken.mp4"):
        (tmp_path / name).write_text("broken")
    answer = tool(run_folder, tmp_path, "--output", tmp_path / "out", "--device", "cpu")
    assert answer.returncode == 2 and "none of the 2 inputs could be read" in answer.stderr
    assert "broken.png" in answer.stderr and "broken.mp4" in answer.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no model is given"),
        (["train.max_iter=3"], "no model is given"),
        (["output/run"], "no input is given for the model output/run"),
        (["output/run", "bag.png", "--treshold", "0.5"], "--threshold"),
        (["output/run", "gone.png"], "there is no gone.png"),
        (
            ["output/run", "bag.png", "--operating-point", "a.json", "--threshold", "0.4"],
            "--threshold has no effect beside --operating-point",
        ),
        (["output/run", "bag.png", "--operating-point", "gone.json"], "there is no operating point gone.json"),
        (["output/run", "bag.png", "--no-pictures", "--grey"], "--grey has no effect with --no-pictures"),
        (["output/run", "bag.png", "--no-pictures", "--video-format", "webm"], "--video-format has no effect"),
    ],
)
def test_what_is_for_the_person_to_fix_is_one_message(arguments, words):
    answer = tool(*arguments)
    assert answer.returncode == 2 and words in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "no/such/run"}, "there is no model no/such/run"),
        ({"overrides": ["model.rio=3"]}, "there is no key model.rio"),
        ({"weights": "gone.pth"}, "gone.pth"),
        ({"threshold": 50}, "scores are in 0..1"),
        ({"ground_truth": "gone.json"}, "there is no annotation file gone.json"),
        ({"batch_size": 0}, "1 or more"),
        ({"device": "tpu"}, "the device is 'tpu'"),
    ],
)
def test_faults_are_found_before_anything_is_written(predict, images, tmp_path, settings, words):
    with pytest.raises(UserError) as fault:
        predict(images[0], **settings)
    assert words in str(fault.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["picture", "video", "COCO file", "ground truth", "tables of others"])
def test_what_is_looked_at_and_what_others_made_is_never_replaced(predict, images, belt, tiny_set, tmp_path, kind):
    out, settings = tmp_path / "out", {}
    copies = {"picture": "pictures/bag.jpg", "video": "videos/belt.mp4"}
    path = out / copies.get(kind, "annotations.json")
    path.parent.mkdir(parents=True)
    if kind == "picture":
        cv2.imwrite(str(path), cv2.imread(str(images[0])))
    else:
        shutil.copy(belt if kind == "video" else tiny_set / "annotations.json", path)
    if kind == "ground truth":
        settings = {"ground_truth": str(path)}
    elif kind == "COCO file":
        settings = {"image_root": str(tiny_set / "images")}
    before = path.read_bytes()
    words = "is there already" if kind == "tables of others" else "is the input, which stays as it is"
    with pytest.raises(UserError, match=words):
        predict(*(images if kind in ("ground truth", "tables of others") else [path]), **settings)
    assert files(out) == [str(path.relative_to(out))] and path.read_bytes() == before


def test_results_of_an_earlier_call_are_replaced(predict, images, belt):
    before = files(predict(*images, belt, threat_reports=True))
    assert files(predict(*images, belt, threat_reports=True)) == before


def test_a_file_that_no_prediction_made_is_never_replaced(predict, images, belt):
    output = predict(*images[:1], belt, threat_reports=True)
    names = ("pictures/bag_0.jpg", "videos/belt.json", "threat_reports/bag_0.dcs", "detections.csv", "videos/belt.mp4")
    for name in names:
        own, content = output / name, (output / name).read_bytes()
        own.write_bytes(cv2.imencode(".jpg", cv2.imread(str(images[1])))[1].tobytes())
        if name.endswith("mp4"):
            own.with_suffix(".json").unlink()
        before = {file: (output / file).read_bytes() for file in files(output)}
        with pytest.raises(UserError, match=f"{name} is there already, and is not a result of an earlier prediction"):
            predict(*images[:1], belt, threat_reports=True)
        assert {file: (output / file).read_bytes() for file in files(output)} == before
        own.write_bytes(content)


@pytest.mark.parametrize("name", ["annotations.json", "pre_annotations/labelme/bag_0.json"])
def test_labels_that_people_corrected_are_never_replaced(predict, images, name):
    output = predict(*images[:1], pre_annotations="labelme")
    predict(*images[:1], pre_annotations="labelme")  # as they were written they are
    corrected = json.loads((output / name).read_text()) | {"corrected": True}
    (output / name).write_text(json.dumps(corrected))
    before = {path: path.is_file() and path.read_bytes() for path in output.rglob("*")}
    with pytest.raises(UserError, match=f"{name} was changed since it was written here, and would be replaced"):
        predict(*images[:1], pre_annotations="labelme")
    assert {path: path.is_file() and path.read_bytes() for path in output.rglob("*")} == before


def test_images_of_which_a_model_of_8_bits_sees_nothing_are_told_once(predict, images, tmp_path, capfd):
    for bits, words in ((12, 1), (16, 0)):
        folder = tmp_path / f"of_{bits}"
        folder.mkdir()
        for image in images:
            scaled = cv2.imread(str(image)).astype(np.uint16) * (257 if bits == 16 else 16)
            cv2.imwrite(str(folder / f"{image.stem}.png"), scaled)
        predict(folder)
        told = " ".join(capfd.readouterr().err.split())
        assert told.count("the model sees 1 to 15 of 255") == told.count("dataloader.reader") == words


def test_a_belt_of_bags_is_seen_by_tiles_as_its_bags_are(predict, images, tmp_path):
    """Bags as far apart as a tile is wide, with an overlap of none: each tile is one bag."""
    bags = [cv2.imread(str(image)) for image in images[:3]]
    cv2.imwrite(str(tmp_path / "belt.png"), np.hstack(bags))
    alone = read(predict(*images[:3], overlays=False) / "predictions.json")
    together = read(predict(tmp_path / "belt.png", overlays=False, tile_width=64, tile_overlap=0) / "predictions.json")
    moved = [[one["bbox"][0] + 64 * (one["image_id"] - 1), *one["bbox"][1:]] for one in alone]
    assert np.sort([one["bbox"] for one in together], axis=0) == pytest.approx(np.sort(moved, axis=0), abs=0.05)
    assert together[0]["segmentation"]["size"] == [48, 192]
    with pytest.raises(UserError, match="tiles 64 pixels wide can't overlap by 64"):
        predict(tmp_path / "belt.png", tile_width=64, tile_overlap=64)


@pytest.mark.parametrize("role", ["input", "ground truth"])
@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("images", "id", [1]),
        ("images", "id", float("nan")),
        ("images", "file_name", ["bag.jpg"]),
        ("categories", "id", {"a": 1}),
        ("categories", "name", {"a": 1}),
        ("categories", None, None),
        ("images", None, 5),
    ],
)
def test_an_entry_that_coco_does_not_allow_is_told(predict, images, tiny_set, tmp_path, role, part, field, value):
    content = json.loads((tiny_set / "annotations.json").read_text())
    if field:
        content[part][0][field] = value
    else:
        content[part][0] = value
    odd = tmp_path / "odd.json"
    odd.write_text(json.dumps(content))
    root = {"image_root": str(tiny_set / "images")}
    with pytest.raises(UserError, match=r"odd\.json has an (entry|image)") as refused:
        predict(odd, **root) if role == "input" else predict(images[0], ground_truth=str(odd))
    assert "FOLDER" not in refused.value.fix and "is missing" not in str(refused.value)


@pytest.mark.parametrize("field", ["image_id", "category_id", "bbox"])
@pytest.mark.parametrize("value", [[1], {"a": 1}, None, float("nan"), [10**400] * 4])
def test_an_annotation_that_cannot_be_drawn_is_left_out(predict, images, tiny_set, tmp_path, field, value):
    content = json.loads((tiny_set / "annotations.json").read_text())
    content["annotations"][0][field] = value
    (tmp_path / "odd.json").write_text(json.dumps(content))
    predict(images[0], ground_truth=str(tmp_path / "odd.json"))


def test_where_no_image_of_a_coco_file_is_there_the_flag_for_their_folder_is_named(predict, tiny_set, tmp_path):
    shutil.copy(tiny_set / "annotations.json", tmp_path / "set.json")
    with pytest.raises(UserError, match="could be read") as refused:
        predict(tmp_path / "set.json")
    assert "--image-root" in refused.value.fix
