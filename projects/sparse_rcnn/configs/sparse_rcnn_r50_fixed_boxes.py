"""Sparse R-CNN whose proposals all start from the whole image: what learned boxes are worth."""

from .common.proposal_boxes import whole_picture
from .sparse_rcnn_r50_100pro_3x import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.init_proposal_boxes = whole_picture

train.output_dir = "output/sparse_rcnn_r50_fixed_boxes"
