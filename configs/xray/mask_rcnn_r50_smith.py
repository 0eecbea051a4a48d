"""Mask R-CNN R50-FPN, pretrained on COCO, on the smith scanner."""

from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

dataloader.train.dataset.names = "xray_smith_train"
dataloader.test.dataset.names = "xray_smith_val"

train.output_dir = "output/mask_rcnn_r50_smith"
