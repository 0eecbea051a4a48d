"""One tiny set for all tests of the engine."""

from pathlib import Path

import pytest

CONFIG = str(Path(__file__).parent / "tiny.py")


@pytest.fixture(scope="session", autouse=True)
def with_tiny_set(tiny_set):
    """Every test here may load `tests/engine/tiny.py`."""


@pytest.fixture
def output(tmp_path):
    """Overrides that put a run's output into a folder of its own, and that folder."""
    folder = tmp_path / "run"
    return folder, [f"train.output_dir={folder}", "train.device=cpu"]
