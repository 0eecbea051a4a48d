"""What W&B's offline recording holds of images and charts: the file's rows, and the files beside it."""

import json
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import offline_run_file as recorded
import pytest
from detectron2.utils.events import EventStorage
from shown_media import CLASSES, shown_image, shown_media

from xray_lazy.tracking.logged_names import LoggedNames
from xray_lazy.tracking.media import Images
from xray_lazy.tracking.wandb import WandbWriter

NAMES = LoggedNames([["media/*", "val/*"]])


def write(folder, run, media, iteration=19, times=1):
    writer = WandbWriter("xray", str(folder), names=NAMES)
    writer.start(run)
    assert writer.takes_media
    with EventStorage(iteration) as storage:
        storage.put_scalars(smoothing_hint=False, epoch=1.5, images_seen=160)
        for _ in range(times):
            writer.write_media(media, iteration)
    writer.close()
    assert not writer.takes_media
    records = recorded.read_finished(folder)
    (files,) = Path(folder).glob("wandb/offline-run-*/files")
    return records, files


def boxes_in(path):
    return json.loads(path.read_text())["box_data"]


@pytest.fixture
def recording(logged_out, run, tmp_path):
    """The row of the media, the recorded artifacts by their names, and the run's files."""
    records, files = write(tmp_path / "out", run, shown_media())
    (row,) = recorded.history(records)
    artifacts = {
        r.artifact.name.split("-")[2]: r.artifact for r in records if r.WhichOneof("record_type") == "artifact"
    }
    return row, artifacts, files


def test_all_media_are_one_row_with_its_place_on_each_axis(recording):
    row, _, _ = recording
    assert (row["iteration"], row["epoch"], row["images_seen"]) == (19, 1.5, 160)
    names = {"/".join(name.split("/")[:2]) for name in row if "/" in name}
    assert names == {
        "val/pictures",
        "val/worst_pictures",
        "val/confusion_matrix_table",
        "val/precision_recall_table",
        "val/screening_roc_table",
    }


def test_images_are_jpegs_of_one_size_under_their_file_names(recording):
    row, _, files = recording
    assert row["val/pictures/captions"] == ["bag_1.png", "bag_2.png"]
    images = [cv2.imread(str(files / name)) for name in row["val/pictures/filenames"]]
    assert all(name.endswith(".jpg") for name in row["val/pictures/filenames"])
    assert [image.shape for image in images] == [(40, 80, 3)] * 2
    assert abs(images[0][:40, :56].mean() - 200) < 2 and abs(images[1][:26].mean() - 100) < 2


def test_boxes_have_class_confidence_and_their_place_on_the_image(recording):
    row, _, files = recording
    sides = row["val/pictures/all_boxes"][0]
    truth, found = (boxes_in(files / sides[side]["path"]) for side in ("ground_truth", "predictions"))
    assert [box["box_caption"] for box in truth] == ["gun", "knife"]
    assert [box["class_id"] for box in truth] == [1, 2]
    assert found == [
        {
            "position": {"minX": 12 / 80, "minY": 10 / 40, "maxX": 30 / 80, "maxY": 30 / 40},
            "class_id": 1,
            "box_caption": "gun 0.88",
            "scores": {"score": 0.875},
        }
    ]


def test_masks_have_the_class_of_each_pixel_and_small_items_on_top(recording):
    row, _, files = recording
    sides = row["val/pictures/all_masks"][0]
    truth, found = (
        cv2.imread(str(files / sides[side]["path"]), cv2.IMREAD_UNCHANGED) for side in ("ground_truth", "predictions")
    )
    expected = np.zeros((40, 80), np.uint8)
    expected[10:30, 12:36] = 1
    expected[12:18, 14:20] = 2
    np.testing.assert_array_equal(truth, expected)
    assert (found[10:30, 12:30] == 1).all() and (found > 0).sum() == 20 * 18


def test_class_names_go_with_boxes_and_masks(logged_out, run, tmp_path):
    records, _ = write(tmp_path / "out", run, shown_media())
    told = {}
    for record in records:
        for item in record.config.update if record.WhichOneof("record_type") == "config" else ():
            told |= json.loads(item.value_json) if item.key == "_wandb" else {}
    for kind in ("bounding_box/class_labels", "mask/class_labels"):
        for side in ("ground_truth", "predictions"):
            labels = told[kind][f"val/pictures_wandb_delimeter_{side}"]["value"]
            assert labels == {"1": "gun", "2": "knife"}


def test_class_names_are_told_once_not_for_each_image(logged_out, run, tmp_path):
    def config_records(count):
        media = {"media/pictures": Images([shown_image(f"{n}.png") for n in range(count)])}
        records, _ = write(tmp_path / str(count), run, media)
        return sum(record.WhichOneof("record_type") == "config" for record in records)

    assert config_records(6) == config_records(1)


def test_the_confusion_matrix_is_a_chart_of_all_cells(recording):
    row, _, files = recording
    table = json.loads((files / row["val/confusion_matrix_table/path"]).read_text())
    assert table["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert len(table["data"]) == 9
    assert {("knife", "background", 4), ("background", "gun", 5)} <= set(map(tuple, table["data"]))


def test_precision_and_recall_are_a_chart_with_a_curve_for_each_class(recording):
    row, _, files = recording
    table = json.loads((files / row["val/precision_recall_table/path"]).read_text())
    assert table["columns"] == ["class", "recall", "precision", "score"]
    assert len(table["data"]) == 51
    assert ["gun", 0.5, 1.0, 0.4] in table["data"] and ["gun", 0.52, 0.0, 0.0] in table["data"]


def test_the_worst_images_are_a_table_with_images(recording):
    row, artifacts, files = recording
    table = json.loads((files / row["val/worst_pictures/path"]).read_text())
    assert table["columns"] == ["file", "picture", "found", "missed", "false"]
    ((name, _, *counts),) = table["data"]
    assert (name, counts) == ("bag_2.png", [1, 1, 0])
    contents = {entry.path: Path(entry.local_path) for entry in artifacts["valworst_pictures"].manifest.contents}
    (image,) = [path for name, path in contents.items() if name.endswith(".jpg")]
    assert cv2.imread(str(image)).shape == (30, 80, 3)
    (classes,) = [json.loads(path.read_text()) for name, path in contents.items() if "classes" in name]
    assert {entry["name"] for entry in classes["class_set"]} == set(CLASSES)
    # offline, copies stay until they are sent: not in anybody's home folder
    assert all(path.is_relative_to(files.parent) for path in contents.values())
    assert "WANDB_DATA_DIR" not in os.environ


def test_nothing_to_show_is_left_out(logged_out, run, tmp_path):
    records, _ = write(tmp_path / "out", run, {"media/pictures": Images([])})
    assert recorded.history(records) == [{"iteration": 19, "epoch": 1.5, "images_seen": 160}]


def test_boxes_without_masks_and_crowds_are_shown(logged_out, run, tmp_path):
    shown = shown_image("bag.png")
    truth = [type(item)(item.class_id, item.box, is_crowd=True) for item in shown.truth]
    shown = type(shown)(**{**vars(shown), "truth": truth, "detections": []})
    records, files = write(tmp_path / "out", run, {"media/pictures": Images([shown])})
    (row,) = recorded.history(records)
    assert "val/pictures/all_masks" not in row
    boxes = boxes_in(files / row["val/pictures/all_boxes"][0]["ground_truth"]["path"])
    assert [box["box_caption"] for box in boxes] == ["gun crowd", "knife crowd"]


def test_media_that_cannot_be_made_are_one_warning(logged_out, run, tmp_path, caplog):
    write(tmp_path / "out", run, {"media/pictures": "no media"}, times=2)
    assert caplog.text.count("W&B failed to log images") == 1


def test_a_stuck_wandb_does_not_fill_the_memory_with_images(logged_out, run, tmp_path):
    writer = WandbWriter("xray", str(tmp_path / "out"), names=NAMES)
    writer.start(run)
    goes_on = threading.Event()
    with EventStorage(19):
        writer._session.use("wait", lambda _: goes_on.wait(60))
        for iteration in range(20):
            writer.write_media({"media/pictures": Images([shown_image("bag.png")])}, iteration)
        goes_on.set()
        writer._session.wait(60)
        writer.write_media({"media/pictures": Images([shown_image("bag.png")])}, 20)
    writer.close()
    rows = recorded.history(recorded.read_finished(tmp_path / "out"))
    assert [row["iteration"] for row in rows] == [0, 1, 2, 3, 20]


def test_disabled_takes_no_media(logged_out, run, tmp_path):
    writer = WandbWriter("xray", str(tmp_path), mode="disabled")
    writer.start(run)
    assert not writer.takes_media
