"""Optimizers. `params` decides which parameters get which learning rate and weight decay."""

import torch
from detectron2.config import LazyCall as L

from xray_lazy.modeling.parameter_groups import ParameterGroups

groups = L(ParameterGroups)(
    weight_decay_norm=0.0,
    weight_decay_bias=0.0,
    lr_factors={},  # by part: {"backbone": 0.1}
    weight_decays={},  # by part, whatever the kind of parameter
    layer_decay=1.0,  # below 1, layers near the image learn slower
    layers=[f"backbone.bottom_up.{layer}" for layer in ("stem", "res2", "res3", "res4", "res5")],
)

# fused=True updates all parameters in one kernel, as None does on a GPU: steps then wait for no numbers of theirs
sgd = L(torch.optim.SGD)(params=groups, lr=0.02, momentum=0.9, weight_decay=1e-4, fused=None)

adamw = L(torch.optim.AdamW)(params=groups, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=None)
