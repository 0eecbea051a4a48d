"""Sparse R-CNN whose proposal boxes look at the image first, on COCO."""

from .common.proposal_boxes import box_transformer
from .sparse_rcnn_r50_100pro_3x import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.init_proposal_boxes = box_transformer

train.output_dir = "output/sparse_rcnn_r50_box_transformer"
