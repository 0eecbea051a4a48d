"""One tiny set and random weights for the tests of exports."""

from pathlib import Path

import pytest
import torch

from tests.lively_model import build_lively_model
from xray_lazy.config import load_config

CONFIG = str(Path(__file__).parent.parent / "engine" / "tiny.py")


@pytest.fixture(scope="session", autouse=True)
def with_tiny_set(tiny_set):
    """Every test here may load `tests/engine/tiny.py`."""


@pytest.fixture(scope="session")
def weights(tiny_set, tmp_path_factory):
    """Of the tiny Mask R-CNN, drawn so that it finds something, of different scores."""
    model = build_lively_model(load_config(CONFIG))
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"model": model.state_dict(), "iteration": 7}, file)
    return file
