"""Sparse R-CNN, ResNet-50, 300 proposals and random crops, 36 epochs of COCO."""

from .common.crop import augmentations
from .sparse_rcnn_r50_100pro_3x import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.num_proposals = 300
dataloader.train.mapper.augmentations = augmentations

train.output_dir = "output/sparse_rcnn_r50_300pro_3x"
