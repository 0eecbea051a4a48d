"""A tiny set, and an output folder with random weights of a tiny model."""

import os
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from tests.data.coco_sets import write_set
from xray_lazy.config import load_config, save_config

CONFIG = str(Path(__file__).parent.parent / "engine" / "tiny.py")
# scores of random weights are nearly equal, and rounding would decide between them
SCALED = {
    "roi_heads.box_predictor.cls_score.weight": 50,
    "roi_heads.box_predictor.bbox_pred.weight": 50,
    "proposal_generator.rpn_head.objectness_logits.weight": 50,
    "proposal_generator.rpn_head.anchor_deltas.weight": 10,
}


@pytest.fixture(scope="session", autouse=True)
def tiny_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, pictures=8)
    os.environ["TINY_SET"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def run_folder(tiny_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    folder.mkdir()
    cfg = load_config(CONFIG, [f"train.output_dir={folder}"])
    save_config(cfg, folder / "config.yaml")
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    for name, parameter in model.named_parameters():
        parameter.data *= SCALED.get(name, 1)
    torch.save({"model": model.state_dict(), "iteration": 7}, folder / "model_final.pth")
    return folder


@pytest.fixture(scope="session")
def pictures(tiny_set):
    return sorted((tiny_set / "images").glob("*.png"))
