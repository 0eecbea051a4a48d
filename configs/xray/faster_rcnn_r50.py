"""Faster R-CNN R50-FPN, pretrained on COCO, for sets without masks."""

from ..common.models.faster_rcnn_fpn import model
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, optimizer, test, train, writers

model.roi_heads.num_classes = 13
model.roi_heads.batch_size_per_image = 128

dataloader.train.mapper.with_masks = False
hooks.best_checkpoint.metric = "bbox/AP"

train.output_dir = "output/faster_rcnn_r50"
train.init_checkpoint = "detectron2://COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl"
