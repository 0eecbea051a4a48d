"""The demo's small model with PointRend's mask head: what it is worth for thin items, from scratch on a CPU."""

from ..common.models.point_rend_head import mask_head
from .mask_rcnn_r18_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.roi_heads.update(mask_in_features=["p2"], mask_pooler=None, mask_head=mask_head)
model.roi_heads.mask_head.update(fc_dims=[256, 256], point_dims=[64, 64, 64])

train.output_dir = "output/point_rend_demo"
