"""Mask R-CNN R50-FPN, pretrained on COCO, on all scanners together."""

from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

scanners = ["astrophysics", "smith", "rapiscan"]
dataloader.train.dataset.names = [f"xray_{scanner}_train" for scanner in scanners]
dataloader.test.dataset.names = [f"xray_{scanner}_val" for scanner in scanners]

train.output_dir = "output/mask_rcnn_r50_all_scanners"
