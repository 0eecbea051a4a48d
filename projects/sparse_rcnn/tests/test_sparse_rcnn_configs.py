"""Every config of the project trains."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf
from tiny_sparse_rcnn import image, total

from xray_lazy.config import config_names, get_config
from xray_lazy.engine.experiment import build_optimizer
from xray_lazy.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in config_names() if name.startswith("projects/sparse_rcnn/")])
def test_one_step_of_a_config_trains(name):
    cfg = get_config(name)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    optimizer = build_optimizer(cfg, model)
    before = copy.deepcopy(model.head.head_series[0].class_logits.weight)
    losses = model([image(64, 96, masks=cfg.dataloader.train.mapper.with_masks)])
    assert ("loss_mask" in losses) == (cfg.model.mask_head is not None)
    total(losses).backward()
    optimizer.step()
    assert torch.isfinite(total(losses)) and not torch.equal(before, model.head.head_series[0].class_logits.weight)


@pytest.mark.parametrize(
    ("node", "values", "words"),
    [
        ("criterion.matcher", {"class_weight": 0, "l1_weight": 0, "giou_weight": 0}, "every object as well"),
        ("criterion", {"class_weight": 0, "l1_weight": 0, "giou_weight": 0}, "nothing would be learned"),
        ("", {"pixel_mean": [1.0]}, "pixel_mean is for 1 channels"),
    ],
)
def test_settings_that_would_train_to_no_purpose_are_refused(node, values, words):
    model = get_config("projects/sparse_rcnn/sparse_rcnn_tiny_demo.py").model
    OmegaConf.select(model, node).update(values) if node else model.update(values)
    with pytest.raises(UserError, match=words):
        instantiate(model)
