"""The tiny Mask R-CNN with weights that find something, without a training."""

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

# scores of random weights are nearly equal, and rounding would decide between them
SCALES = {
    "roi_heads.box_predictor.cls_score.weight": 50,
    "roi_heads.box_predictor.bbox_pred.weight": 50,
    "proposal_generator.rpn_head.objectness_logits.weight": 50,
    "proposal_generator.rpn_head.anchor_deltas.weight": 10,
}


@torch.no_grad()
def build_lively_model(cfg: DictConfig) -> nn.Module:
    """The model of `tests/engine/tiny.py`, the same at each call."""
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    for name, parameter in model.named_parameters():
        parameter.mul_(SCALES.get(name, 1))
    return model
