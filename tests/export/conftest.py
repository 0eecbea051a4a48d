"""One tiny set and random weights for the tests of exports."""

import os
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate

from tests.data.coco_sets import write_set
from xray_lazy.config import load_config

CONFIG = str(Path(__file__).parent.parent / "engine" / "tiny.py")


@pytest.fixture(scope="session", autouse=True)
def tiny_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny_set")
    write_set(folder, pictures=4)
    os.environ["TINY_SET"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def weights(tiny_set, tmp_path_factory):
    """Of the tiny Mask R-CNN, drawn so that it finds something, of different scores."""
    torch.manual_seed(0)
    model = instantiate(load_config(CONFIG).model)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(50)
        model.roi_heads.box_predictor.bbox_pred.weight.mul_(50)
        model.proposal_generator.rpn_head.objectness_logits.weight.mul_(50)
        model.proposal_generator.rpn_head.anchor_deltas.weight.mul_(10)
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"model": model.state_dict(), "iteration": 7}, file)
    return file
