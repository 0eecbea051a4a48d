"""A tiny set, and an output folder with random weights of a tiny model."""

from pathlib import Path

import pytest
import torch

from tests.lively_model import build_lively_model
from xray_lazy.config import load_config, save_config

CONFIG = str(Path(__file__).parent.parent / "engine" / "tiny.py")


@pytest.fixture(scope="session", autouse=True)
def with_tiny_set(tiny_set):
    """Every test here may load `tests/engine/tiny.py`."""


@pytest.fixture(scope="session")
def run_folder(tiny_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    folder.mkdir()
    cfg = load_config(CONFIG, [f"train.output_dir={folder}"])
    save_config(cfg, folder / "config.yaml")
    model = build_lively_model(cfg)
    torch.save({"model": model.state_dict(), "iteration": 7}, folder / "model_final.pth")
    return folder


@pytest.fixture(scope="session")
def images(tiny_set):
    return sorted((tiny_set / "images").glob("*.png"))
