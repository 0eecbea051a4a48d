"""Sparse R-CNN, ResNet-50, 100 proposals, 36 epochs of COCO."""

from .common.model import model
from .common.recipe import dataloader, hooks, lr_multiplier, optimizer, test, train, writers

train.output_dir = "output/sparse_rcnn_r50_100pro_3x"
