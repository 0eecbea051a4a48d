"""Mask R-CNN with a ConvNeXt-T FPN (Liu et al., CVPR 2022), pretrained on ImageNet-22k, on the astrophysics scanner.

It needs timm (pip install timm), any of whose models with a pyramid will do: model.backbone.bottom_up.name=resnet50
"""

from detectron2.config import LazyCall as L

from xray_lazy.modeling.timm_backbone import TimmBackbone

from ..common.models.statistics import imagenet_rgb
from ..common.optim import adamw as optimizer
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, model, test, train, writers

model.backbone.bottom_up = L(TimmBackbone)(
    name="convnext_tiny.fb_in22k",
    out_features=["res2", "res3", "res4", "res5"],
    drop_path_rate=0.4,  # of the paper's Mask R-CNN, as are learning rate and weight decay
)
model.update(input_format="RGB", **imagenet_rgb)

optimizer.lr = 5e-5  # the paper has 1e-4 for a batch of 16
optimizer.weight_decay = 0.05
layers = ("stem_*", "stages_0", "stages_1", "stages_2", "stages_3")  # for a layer_decay
optimizer.params.layers = [f"backbone.bottom_up.network.{layer}" for layer in layers]

train.output_dir = "output/mask_rcnn_convnext_tiny"
train.init_checkpoint = "timm://${model.backbone.bottom_up.name}"
