"""Mask R-CNN R50-FPN, pretrained on COCO, on the rapiscan scanner."""

from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

dataloader.train.dataset.names = "xray_rapiscan_train"
dataloader.test.dataset.names = "xray_rapiscan_val"

train.output_dir = "output/mask_rcnn_r50_rapiscan"
