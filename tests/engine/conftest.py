"""One tiny set for all tests of the engine."""

import os
from pathlib import Path

import pytest

from tests.data.coco_sets import write_set

CONFIG = str(Path(__file__).parent / "tiny.py")


@pytest.fixture(scope="session", autouse=True)
def tiny_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, pictures=8)
    os.environ["TINY_SET"] = str(folder)
    return folder


@pytest.fixture
def output(tmp_path):
    """Overrides that put a run's output into a folder of its own, and that folder."""
    folder = tmp_path / "run"
    return folder, [f"train.output_dir={folder}", "train.device=cpu"]
