"""A model, its optimizer and its data, small enough to build in a test."""

import torch
from detectron2.config import LazyCall as L
from detectron2.modeling import Backbone, ResNet
from detectron2.modeling.backbone import BasicStem
from omegaconf import OmegaConf

backbone = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=8, norm="BN"),
    stages=L(ResNet.make_default_stages)(depth=18, norm="${..stem.norm}"),
    num_classes="${..num_classes}",
    out_features=["res5", "linear"],
)
optimizer = L(torch.optim.SGD)(lr=0.02, momentum=0.9, params="???")

dataloader = OmegaConf.create()
dataloader.train = {"dataset": {"names": "xray_train"}, "scanners": ["smith"], "flip": 0.5}
dataloader.test = {"dataset": {"names": "xray_val"}, "sizes": [[32], [64]]}
dataloader.evaluator = {"dataset": "${..test.dataset}", "max_dets": 100}

_private = {"hidden": 1}
backbone_class = Backbone
