"""What is analyzed is found, and what does not fit together is refused with the fix."""

import json
from pathlib import Path

import pytest

from tests.data.coco_sets import write_set
from xray_lazy.analysis.inputs import find_evaluation, inputs_of_files, inputs_of_run, scanner_of
from xray_lazy.errors import UserError


def write_evaluation(run, name, ap=None, detections=(), **metrics):
    folder = run / "evaluation" / name
    folder.mkdir(parents=True)
    (folder / "predictions.json").write_text(json.dumps(list(detections)))
    (folder / "metrics.json").write_text(json.dumps({"bbox": {"AP": ap}, **metrics}))


def detection(**changes):
    return {"image_id": 10, "category_id": 1, "bbox": [5, 6, 20, 15], "score": 0.9} | changes


@pytest.fixture
def truth(tmp_path):
    write_set(tmp_path / "set")
    return str(tmp_path / "set" / "annotations.json"), str(tmp_path / "set" / "images")


def write_detections(tmp_path, *detections):
    file = tmp_path / "found.json"
    file.write_text(json.dumps(detections))
    return file


def test_the_best_evaluation_is_taken_or_the_one_that_is_named(tmp_path):
    for iteration, ap in ((9, 20.0), (19, 30.0), (29, 25.0)):
        write_evaluation(tmp_path, f"xray_smith_val/iter_{iteration}", ap)
    write_evaluation(tmp_path, "xray_smith_val/iter_29_TTA", 40.0)
    assert find_evaluation(tmp_path).name == "xray_smith_val/iter_19"
    assert find_evaluation(tmp_path, "newest").name == "xray_smith_val/iter_29"
    for name in ("iter_9", "iter_29_TTA", "xray_smith_val/iter_29"):
        assert find_evaluation(tmp_path, name).name.endswith(name)
    with pytest.raises(UserError, match="no evaluation iter_5") as error:
        find_evaluation(tmp_path, "iter_5")
    assert "xray_smith_val/iter_19" in error.value.fix


@pytest.mark.parametrize("damage", ["{", "[1]", None])
def test_what_may_be_better_than_the_best_and_can_t_be_read_is_told(tmp_path, caplog, damage):
    for iteration, ap in ((9, 20.0), (19, 30.0), (29, 25.0)):
        write_evaluation(tmp_path, f"xray_smith_val/iter_{iteration}", ap)
    assert find_evaluation(tmp_path).iteration == 19 and not caplog.records
    lost = tmp_path / "evaluation/xray_smith_val/iter_19"
    if damage is None:
        (lost / "predictions.json").unlink()
    else:
        (lost / "metrics.json").write_text(damage)
    assert find_evaluation(tmp_path).iteration == 29
    (warning,) = (record.getMessage() for record in caplog.records)
    assert ("is better than" if damage is None else "can't be read") in warning and "xray_smith_val/iter_19" in warning
    assert find_evaluation(tmp_path, "newest").iteration == 29 and len(caplog.records) == 1


def test_among_evaluations_on_several_sets_one_must_be_named(tmp_path):
    write_evaluation(tmp_path, "xray_smith_val/iter_9", 20.0)
    write_evaluation(tmp_path, "xray_rapiscan_val/iter_9", 20.0)
    with pytest.raises(UserError, match="several data sets"):
        find_evaluation(tmp_path)
    assert find_evaluation(tmp_path, "xray_smith_val/iter_9").dataset == "xray_smith_val"


def test_a_run_without_an_evaluation_is_told_how_to_make_one(tmp_path):
    with pytest.raises(UserError) as error:
        find_evaluation(tmp_path)
    assert error.value.fix == "give the train.output_dir of a training"
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError) as error:
        find_evaluation(tmp_path)
    assert "model_" not in error.value.fix  # it has saved none
    (tmp_path / "model_0000009.pth").touch()
    with pytest.raises(UserError) as error:
        find_evaluation(tmp_path)
    assert f"--eval-only train.init_checkpoint={tmp_path}/model_0000009.pth" in error.value.fix


def test_boxes_of_a_negative_width_are_refused(tmp_path, truth):
    found = write_detections(tmp_path, detection(), detection(bbox=[25, 6, -20, 15]))
    with pytest.raises(UserError, match=r"1 detection of .* with a negative width or height, the first on image 10"):
        inputs_of_files(found, *truth)
    with pytest.raises(UserError, match="no run folder"):
        find_evaluation(tmp_path / "none")


def test_a_file_is_read_with_its_ground_truth(tmp_path, truth):
    inputs = inputs_of_files(write_detections(tmp_path, detection()), *truth)
    assert len(inputs.ground_truth["images"]) == 4
    assert inputs.ground_truth["annotations"][0]["id"] == 100  # of the JSON
    assert isinstance(inputs.ground_truth["annotations"][0]["segmentation"]["counts"], str)
    assert inputs.folder == tmp_path / "analysis" / "found"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 99}, r"1 of the 2 images .* id 99; it has 10, 11, 12, 13"),
        ({"category_id": 2}, r"1 of the 2 categories .* id 2; it has 1, 3"),
    ],
)
def test_detections_on_another_ground_truth_are_refused(tmp_path, truth, changes, message):
    with pytest.raises(UserError, match=message) as error:
        inputs_of_files(write_detections(tmp_path, detection(), detection(**changes)), *truth)
    assert "--ground-truth" in error.value.fix


def test_detections_outside_of_the_images_are_of_another_ground_truth(tmp_path, truth):
    with pytest.raises(UserError, match=r"1 of 2 detections .* lies? outside of their images .* image 11"):
        outside = detection(image_id=11, bbox=[200, 6, 20, 15])
        inputs_of_files(write_detections(tmp_path, detection(), outside), *truth)


def test_a_ground_truth_without_sizes_needs_its_images(tmp_path, truth):
    content = json.loads((tmp_path / "set" / "annotations.json").read_text())
    for image in content["images"]:
        image["width"] = image["height"] = 0
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(content))
    file = write_detections(tmp_path, detection())
    with pytest.raises(UserError, match="size of 4 images") as error:
        inputs_of_files(file, truth[0])
    assert "--images" in error.value.fix
    assert inputs_of_files(file, *truth).ground_truth["images"][0]["width"] == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": [float("nan"), 2, 3, 4]},
        {"bbox": [1, 2, float("inf"), 4]},
        {"score": "0.9"},
        {"score": None},
        {"score": True},
        {"image_id": [10]},
        {"image_id": True},
        {"category_id": True},
        {"bbox": [1, 2, 3, 10**400]},
    ],
)
def test_a_result_with_a_value_of_another_kind_is_refused_by_its_place(tmp_path, truth, changes):
    bad = detection(**changes)
    with pytest.raises(UserError, match=r"COCO results: entry 1 is \{") as refused:
        inputs_of_files(write_detections(tmp_path, detection(), bad), *truth)
    assert json.dumps(bad)[:100] in refused.value.message


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[1]",
        '[{"image_id": 1}]',
        "[",
        "[" * 100_000,
        f"[{'9' * 5000}]",
        '[{"image_id": 1, "category_id": 1, "score": 1}]',
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, truth, content):
    (tmp_path / "found.json").write_text(content)
    with pytest.raises(UserError, match=r"COCO results|not a JSON file"):
        inputs_of_files(tmp_path / "found.json", *truth)


def test_a_set_that_has_changed_since_the_evaluation_is_refused(tmp_path, truth):
    config = {"dataloader": {"test": {"dataset": {
        "_target_": "xray_lazy.data.datasets.load_datasets",
        "names": {"json_file": truth[0], "image_root": truth[1], "name": "bags"},
    }}}}  # fmt: skip
    for name, metrics in {
        "good": {"pictures": 4, "bbox": {"AP": 1, "AP-gun": 1, "AP-knife": 1}},
        "fewer": {"pictures": 3},
        "others": {"pictures": 4, "bbox": {"AP": 1, "AP-gun": 1, "AP-dagger": 1}},
    }.items():
        run = tmp_path / name
        write_evaluation(run, "bags/iter_9", detections=[detection()], **{"bbox": {}} | metrics)
        (run / "config.yaml").write_text(json.dumps(config))
    assert inputs_of_run(tmp_path / "good").dataset == "bags"
    with pytest.raises(UserError, match="is of 3 images, but data set bags has 4"):
        inputs_of_run(tmp_path / "fewer")
    with pytest.raises(UserError, match="classes gun, dagger, but data set bags has gun, knife"):
        inputs_of_run(tmp_path / "others")


def test_a_scanner_is_known_by_the_name_of_its_set():
    assert scanner_of("xray_smith_heimann_val") == "smith_heimann"
    assert scanner_of("bags") == "bags"


def write_names(tmp_path, **names):
    images = [{"id": int(number.removeprefix("id_")), "file_name": name} for number, name in names.items()]
    (tmp_path / "annotations.json").write_text(json.dumps({"images": images}))


def test_detections_with_ids_of_their_own_are_found_by_the_names_of_their_images(tmp_path, truth):
    names = {image["id"]: image["file_name"] for image in json.loads(Path(truth[0]).read_text())["images"]}
    assert len(names) > 1
    # the ids are those of the ground truth, but of other images
    write_names(
        tmp_path, **{f"id_{number}": name for number, name in zip(names, reversed(names.values()), strict=True)}
    )
    found = inputs_of_files(write_detections(tmp_path, *(detection(image_id=number) for number in names)), *truth)
    assert [one["image_id"] for one in found.detections] == list(reversed(names))


def test_detections_on_a_image_that_the_truth_has_not_by_name_are_refused(tmp_path, truth):
    write_names(tmp_path, id_10="stranger.png")
    with pytest.raises(UserError, match=r"no image with the name stranger\.png"):
        inputs_of_files(write_detections(tmp_path, detection()), *truth)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        ("x", "a str, neither polygons nor RLE"),
        ({"size": [60.0, 80.0], "counts": "0"}, r"no \[height, width\]"),
        ({"size": [60, 80], "counts": None}, "are no run lengths"),
        ({"size": [60, 80], "counts": "é"}, "are no run lengths"),
        ({"size": [60, 80], "counts": [-1, 4801]}, "are no run lengths"),
        ({"size": [60, 80], "counts": [10**20]}, "are no run lengths"),
        ({"size": [60, 80], "counts": [10, 5]}, "runs of 15 pixels for 80x60"),
        ({"size": [60, 80], "counts": "PPR1"}, "its runs do not add up"),
        ([1, 2, 3, 4, 5, 6], "something else than finite numbers"),
        ([["a", "b"]], "something else than finite numbers"),
        ([[1, 1, 10]], "no polygon of three points"),
    ],
)
def test_a_mask_that_none_can_draw_is_refused_by_its_place(tmp_path, truth, mask, why):
    with pytest.raises(UserError, match=f"has a mask that can't be read: entry 1: .*{why}"):
        inputs_of_files(write_detections(tmp_path, detection(), detection(segmentation=mask)), *truth)


def test_a_result_may_have_no_box_beside_its_mask(tmp_path, truth):
    mask = {"segmentation": [[5, 6, 25, 6, 25, 21]]}
    found = inputs_of_files(write_detections(tmp_path, detection(bbox=None, **mask), detection(**mask)), *truth)
    assert len(found.matches("segm").scores) == 2


@pytest.mark.parametrize("score", [65.8, -3.2])
def test_scores_that_no_threshold_fits_are_refused(tmp_path, truth, score):
    with pytest.raises(UserError, match=f"no probabilities, such as {score}"):
        inputs_of_files(write_detections(tmp_path, detection(), detection(score=score)), *truth)
