"""Optimizers. `params` decides which parameters get which learning rate and weight decay."""

import torch
from detectron2.config import LazyCall as L

from xray_lazy.modeling.parameter_groups import ParameterGroups

sgd = L(torch.optim.SGD)(
    params=L(ParameterGroups)(weight_decay_norm=0.0, weight_decay_bias=0.0, backbone_lr_factor=1.0),
    lr=0.02,
    momentum=0.9,
    weight_decay=1e-4,
)

adamw = L(torch.optim.AdamW)(
    params=L(ParameterGroups)(weight_decay_norm=0.0, weight_decay_bias=0.0, backbone_lr_factor=1.0),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=0.05,
)
