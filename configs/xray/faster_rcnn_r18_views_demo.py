"""A small Faster R-CNN on generated bags in two views: `tools/dataset.py demo --views 2 --classes 5`."""

from .mask_rcnn_r18_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

for key in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(key)

dataloader.train.mapper.with_masks = False
hooks.best_checkpoint.metric = "screening/P_D@5"  # of bags, which alarm by the best of their views

train.output_dir = "output/views_demo"
