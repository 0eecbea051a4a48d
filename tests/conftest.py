"""What the tests of several tools share."""

import os
from pathlib import Path

import pytest

from tests.data.coco_sets import write_set

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a tool that runs `tests/engine/tiny.py` on a set of its own."""
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, pictures=8)
    return {**os.environ, "TINY_SET": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
