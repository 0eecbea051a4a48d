"""docs/tracking.md: its writer is short and runs as it stands, and what it says of names is so."""

import csv
import doctest
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tests.data.coco_sets import write_set
from tests.engine.conftest import CONFIG
from xray_lazy.config import get_config
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.tracking.media import ComparedImage, Images

TEXT = (Path(__file__).parents[2] / "docs/tracking.md").read_text()
(WRITER,) = re.findall(r"```python\n# my_writer\.py\n(.*?)```", TEXT, re.DOTALL)
(ADDED,) = re.findall(r"'(\+writers\.csv=.*)'", TEXT)


@pytest.fixture
def overrides(tmp_path, monkeypatch):
    write_set(tmp_path / "set", count=8)
    (tmp_path / "my_writer.py").write_text(WRITER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TINY_SET", str(tmp_path / "set"))
    quiet = ["train.device=cpu", "~hooks.prediction_pictures", "~hooks.evaluation_media", "train.checkpointer.period=3"]
    return [*quiet, f"train.output_dir={tmp_path / 'run'}", ADDED.replace("period: 10", "period: 1")]


def numbers(folder):
    with open(folder / "numbers.csv") as stream:
        return [(int(iteration), name) for iteration, name, _ in csv.reader(stream)]


def test_the_writer_of_the_documentation_has_fewer_than_25_lines_and_survives_a_resume(tmp_path, overrides):
    assert len([line for line in WRITER.splitlines() if line.strip()]) < 25
    run(RunOptions(CONFIG, [*overrides, "train.max_iter=5", "train.eval_period=0"]))
    assert (4, "val/bbox/AP") in numbers(tmp_path / "run")
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000002.pth")
    run(RunOptions(CONFIG, [*overrides, "train.max_iter=5", "train.eval_period=0"], resume=True))
    found = numbers(tmp_path / "run")
    assert len(found) == len(set(found))
    assert [iteration for iteration, name in found if name == "train/total_loss"] == [0, 1, 2, 3, 4]


def test_the_tracker_of_images_writes_them(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(import cv2\n.*?)```", TEXT, re.DOTALL)
    exec(code, names := {})
    monkeypatch.chdir(tmp_path)
    image = np.zeros((4, 6, 3), np.uint8)
    shown = Images([ComparedImage(image, "bag.png", [], [], [], lambda: image)])
    names["FolderOfImages"]().write_media({"media/pictures": shown}, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["0000007_bag.png"]


def test_the_examples_of_names_are_right():
    found = doctest.DocTestParser().get_doctest(TEXT.replace("```", ""), {}, "docs/tracking.md", None, None)
    assert len(found.examples) == 5
    assert doctest.DocTestRunner().run(found).failed == 0


OVERRIDES = re.findall(r"(?m)^(?:\.\.\.|python tools/lazy_train.py --config-file \S+) ([^#\n\\]+)", TEXT)


@pytest.mark.parametrize("text", OVERRIDES)
def test_an_override_of_the_documentation_is_one(text):
    get_config("xray/mask_rcnn_r50.py", shlex.split(text))
