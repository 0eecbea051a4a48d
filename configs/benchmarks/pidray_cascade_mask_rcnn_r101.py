"""Cascade Mask R-CNN R101-FPN on PIDray, with the settings of its published figures; see docs/datasets.md."""

from ..common.models.cascade_mask_rcnn_fpn import model
from .pidray_mask_rcnn_r101 import dataloader, hooks, lr_multiplier, optimizer, test, train, writers

model.backbone.bottom_up.stages.depth = 101
model.roi_heads.num_classes = 12

train.output_dir = "output/pidray_cascade_mask_rcnn_r101"
