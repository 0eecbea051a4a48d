"""The tools take sets whose files and classes have names that are not UTF-8."""

import json
import os

import pytest

from tests.conftest import ROOT
from tests.data.coco_sets import write_set
from xray_lazy.data.datasets import load_datasets

NAMES = (os.fsdecode("刀具".encode("gbk")), os.fsdecode("Müller".encode("latin-1")))


@pytest.fixture
def bags(tmp_path):
    """A set with such names, one of them that of a folder."""
    content = write_set(tmp_path, classes=NAMES)
    for image, name in zip(content["images"], NAMES, strict=False):
        os.makedirs(os.path.join(tmp_path, "images", name))
        renamed = f"{name}/{name}.png"
        os.rename(tmp_path / "images" / image["file_name"], tmp_path / "images" / renamed)
        image["file_name"] = renamed
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def test_a_set_is_checked_repaired_split_and_analyzed(run_tool_here, bags):
    def tool(name, *arguments):
        run = run_tool_here(ROOT / "tools" / name, *arguments)
        assert run.returncode == 0, run.stdout + run.stderr

    truth, images = bags / "annotations.json", bags / "images"
    tool("dataset.py", "check", truth, images, "--json", bags / "found.json")
    tool("dataset.py", "repair", truth, images, "--output", bags / "repaired.json")
    given, repaired = (json.loads((bags / name).read_bytes()) for name in ("annotations.json", "repaired.json"))
    assert repaired["images"] == given["images"]
    assert [one["name"] for one in repaired["categories"]] == list(NAMES)
    tool("dataset.py", "split", "--scanner", "one", truth, images, "--output", bags / "split")
    boxes = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in given["annotations"]]
    (bags / "found.json").write_text(json.dumps(boxes))
    tool("analyze.py", "detections", "--predictions", bags / "found.json", "--ground-truth", truth, "--images", images)
    assert (bags / "analysis" / "found" / "bbox_confusion.png").stat().st_size


def test_class_names_of_a_loaded_set_can_be_written_anywhere(bags):
    dataset = load_datasets({"json_file": str(bags / "annotations.json"), "image_root": str(bags / "images")})
    assert dataset.class_names[1] == r"M\udcfcller"
    assert all(os.path.isfile(record["file_name"]) for record in dataset)
