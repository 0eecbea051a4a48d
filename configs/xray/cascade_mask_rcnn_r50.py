"""Cascade Mask R-CNN R50-FPN, pretrained on COCO, on the astrophysics scanner: boxes that fit more closely."""

from ..common.models.cascade_mask_rcnn_fpn import model
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, optimizer, test, train, writers

model.roi_heads.num_classes = 13
model.roi_heads.batch_size_per_image = 128

train.output_dir = "output/cascade_mask_rcnn_r50"
train.init_checkpoint = "detectron2://Misc/cascade_mask_rcnn_R_50_FPN_3x/144998488/model_final_480dd8.pkl"
