"""Which scans to label next: the order by itself, and `tools/analyze.py next` as a person calls it."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from xray_lazy.data.image_detections import ImageDetections
from xray_lazy.prediction.next_to_label import Candidate, class_rarity, in_order

TOOL = Path(__file__).parents[2] / "tools" / "analyze.py"


def candidate(name, uncertainty, *looks):
    return Candidate(Path(name), name, uncertainty, 1.0, "gun", [], np.array(looks, np.float32) / np.linalg.norm(looks))


def names(chosen):
    return [one.candidate.name for one in chosen]


def test_the_unsure_come_first_and_copies_of_them_last():
    given = [candidate("sure", 0.1, 0, 1), candidate("unsure", 0.9, 1, 0), candidate("its_copy", 0.9, 1, 0)]
    assert names(in_order(given, 3)) == ["unsure", "sure", "its_copy"]
    assert names(in_order(given, 1)) == ["unsure"]
    assert [one.distance for one in in_order(given, 3)] == [1, 1, 0]


def test_where_nothing_is_found_the_most_unlike_come_first():
    given = [candidate("a", 0, 1, 0), candidate("near_a", 0, 1, 0.1), candidate("far", 0, 0, 1)]
    assert names(in_order(given, 3)) == ["a", "far", "near_a"]


def test_rare_classes_count_more_up_to_a_limit():
    common = ImageDetections(np.zeros((9, 4), np.float32), np.ones(9, np.float32), np.zeros(9, np.int32), None)
    rare = ImageDetections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.ones(1, np.int32), None)
    assert class_rarity([common, rare], 3).tolist() == [1, 3, 4]
    assert class_rarity([], 2).tolist() == [1, 1]


def test_the_tool_writes_a_list_and_a_sheet(run_tool_here, run_folder, tiny_set, tmp_path):
    scans = tmp_path / "scans"
    shutil.copytree(tiny_set / "images", scans)
    (scans / "broken.png").write_text("broken")
    call = ["next", run_folder, scans, "--count", 5, "--output", tmp_path / "next", "--device", "cpu"]
    answer = run_tool_here(TOOL, *call)
    assert answer.returncode == 0, answer.stderr
    assert "skipped: image" in answer.stdout and "5 images of 8 to label next" in answer.stdout
    with open(tmp_path / "next" / "next.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["rank"] for row in rows] == list("12345") and len({row["image"] for row in rows}) == 5
    for row in rows:
        assert float(row["score"]) == pytest.approx(float(row["uncertainty"]) * float(row["distance"]), abs=2e-4)
        assert row["class"] in ("gun", "knife")
    assert cv2.imread(str(tmp_path / "next" / "next.jpg")).shape[1] > 1000
    assert run_tool_here(TOOL, *call).returncode == 0, "an earlier list is replaced"
    (tmp_path / "next" / "next.csv").write_text("mine")
    answer = run_tool_here(TOOL, *call)
    assert answer.returncode == 2 and "is not a list of images to label" in answer.stderr
    assert (tmp_path / "next" / "next.csv").read_text() == "mine"
