"""Sparse R-CNN, ResNet-101, 300 proposals and random crops, 36 epochs of COCO."""

from .sparse_rcnn_r50_300pro_3x import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.backbone.bottom_up.stages.depth = 101

train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-101.pkl"
train.output_dir = "output/sparse_rcnn_r101_300pro_3x"
