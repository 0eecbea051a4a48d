"""Parts of the server by themselves: scans of several files, the queue when the network fails, odd annotations."""

import io
import json
import re
from pathlib import PurePosixPath

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.data.check.masks import mask_area, mask_box, rle_fault
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.data.masks.run_lengths import encode
from xray_lazy.errors import UserError
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.prediction.serving.correction_set import CorrectionSet, read_items
from xray_lazy.prediction.serving.detection_queue import DetectionQueue
from xray_lazy.prediction.serving.received_scans import received, safe_name

TWO_ENERGIES = ImageReader(2, [0, 60000], more_files=[["_low.", "_high."]])


def png(value=1000):
    return io.BytesIO(cv2.imencode(".png", np.full((48, 64), value, np.uint16))[1].tobytes())


def test_files_that_are_read_together_are_one_scan(tmp_path):
    files = [(name, png()) for name in ("a/bag_low.png", "b_high.png", "a/bag_high.png", "b_low.png", "c_low.png")]
    with received(files, TWO_ENERGIES, 1e6, tmp_path) as scans:
        assert [str(scan.name) for scan in scans] == ["a/bag_low.png", "b_low.png", "c_low.png"]
        assert [scan.size for scan in scans] == [(64, 48), (64, 48), None]
        assert TWO_ENERGIES.read(scans[0].path).shape == (48, 64, 2)
        assert "c_high.png was not sent along with c_low.png" in scans[2].problem.message
        assert scans[2].problem.fix == "send all files of a scan in one request"
    assert not list(tmp_path.iterdir())


def test_a_further_file_that_would_lie_elsewhere_is_not_opened(tmp_path):
    """The reader puts a text in another one's place, which may be in the folders' names, too."""
    (tmp_path / "high").mkdir()
    (tmp_path / "low").mkdir()
    reader = ImageReader(2, [0, 60000], more_files=[["/low/", "/high/"]])
    with received([("bag.png", png())], reader, 1e6, tmp_path / "low") as (scan,):
        assert "was not sent along" in scan.problem.message


def test_corrections_keep_the_files_of_a_scan_together(tmp_path):
    corrections = CorrectionSet(tmp_path / "set", ["gun"], with_masks=False)
    files = [(name, png()) for name in ("x/bag_low.png", "x/bag_high.png")]
    with received(files, TWO_ENERGIES, 1e6, tmp_path) as (scan,):
        corrections.add(scan, read_items('[{"class": "gun", "bbox": [1, 2, 3, 4]}]', scan.size, ["gun"], False))
    content = json.loads((tmp_path / "set" / "annotations.json").read_text())
    path = tmp_path / "set" / "images" / content["images"][0]["file_name"]
    assert TWO_ENERGIES.read(path).shape == (48, 64, 2)
    assert content["annotations"][0].keys() == {"id", "image_id", "category_id", "iscrowd", "bbox", "area"}


def test_what_a_killed_server_has_left_half_written_is_removed_at_the_next_start(tmp_path):
    leftovers = [tmp_path / ".annotations.json.ab12_xyz.tmp", tmp_path / "images" / "1f" / ".bag.png.00000000.tmp"]
    others = [tmp_path / ".notes.tmp", tmp_path / "images" / "1f" / "bag.png"]
    leftovers[1].parent.mkdir(parents=True)
    for path in leftovers + others:
        path.write_text("half")
    CorrectionSet(tmp_path, ["gun"], with_masks=False)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(others)


@pytest.mark.parametrize("names", [("a.png", "./a.png"), ("", "a.png"), ("..", "a.png"), ("a.png", "a.png/b.png")])
def test_names_that_are_no_names_are_refused(tmp_path, names):
    with (
        pytest.raises(UserError, match="name each file"),
        received([(n, png()) for n in names], ImageReader(), 1e6, tmp_path),
    ):
        pass


@given(st.text(max_size=300))
def test_every_name_lies_below_its_folder(given_name):
    name = safe_name(given_name)
    assert not name.is_absolute() and not {"..", "."} & set(name.parts)
    assert "\0" not in str(name) and all(len(part) <= 100 for part in name.parts)
    assert PurePosixPath("x", name).is_relative_to("x")


class FailsOnce(Predictor):
    """Its first batch ends with an error of all of it."""

    def stream(self, sources):
        if not hasattr(self, "has_failed"):
            self.has_failed = True
            raise UserError("the model finds no items", "")
        return super().stream(sources)


def test_a_batch_that_fails_is_told_to_all_in_it_and_the_next_one_is_answered(run_folder, images):
    queue = DetectionQueue(FailsOnce.of(run_folder, device="cpu"))
    with pytest.raises(UserError, match="finds no items"):
        queue.submit(images[0]).result(60)
    waiting = [queue.submit(image) for image in images]
    queue.close()
    assert [future.result(60).source for future in waiting] == images and not queue.is_alive


SIZE = (64, 48)
BLOB = encode(np.pad(np.ones((10, 20), np.uint8), ((5, 33), (8, 36))))
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-100, 200)
MASKS = (
    st.none()
    | st.just(BLOB)
    | st.fixed_dictionaries(
        {
            "size": st.just([48, 64]) | st.lists(st.integers()),
            "counts": st.text(max_size=8) | st.lists(st.integers(0, 3072)),
        }
    )
)
ENTRIES = st.fixed_dictionaries(
    {
        "class": st.sampled_from(["gun", "knife", "spoon", None]),
        "bbox": st.lists(NUMBERS, min_size=3, max_size=5) | st.none(),
    },
    optional={"segmentation": MASKS, "moved": st.booleans()},
)


@given(st.lists(ENTRIES, max_size=2) | st.recursive(NUMBERS | st.text(), st.lists))
def test_annotations_are_sound_or_refused(entries):
    try:
        items = read_items(json.dumps(entries), SIZE, ["gun", "knife"], with_masks=True)
    except UserError as error:
        assert re.search("annotation", error.message)
        return
    for item in items:
        x, y, width, height = item.box
        assert x >= 0 and y >= 0 and x + width <= 64.01 and y + height <= 48.01 and min(width, height) > 0.9
        assert mask_area(item.mask, SIZE) > 0 and min(mask_box(item.mask)[2:]) > 0.9
        assert not isinstance(item.mask, dict) or rle_fault(item.mask, SIZE) is None


@given(
    st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=9, max_size=9).filter(
        lambda rows: any(map(any, rows))
    ),
    st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 30), st.integers(1, 25)),
)
def test_a_stretched_mask_has_the_box_that_was_drawn(rows, box):
    bitmap = np.pad(np.array(rows, np.uint8), ((20, 19), (40, 12)))
    entry = {"class": "gun", "bbox": list(box), "segmentation": encode(bitmap), "moved": True}
    (item,) = read_items(json.dumps([entry]), SIZE, ["gun"], with_masks=True)
    assert mask_box(item.mask) == list(box)


def test_a_moved_mask_fills_its_new_box():
    entry = {"class": "gun", "bbox": [30, 20, 10, 20], "segmentation": BLOB, "moved": True}
    (item,) = read_items(json.dumps([entry]), SIZE, ["gun"], with_masks=True)
    assert mask_box(item.mask) == [30, 20, 10, 20] and mask_area(item.mask, SIZE) == 200
    (kept,) = read_items(json.dumps([{**entry, "moved": False}]), SIZE, ["gun"], with_masks=True)
    assert mask_box(kept.mask) == [8, 5, 20, 10]
