"""Sparse R-CNN with proposals from the image and a mask branch, on the astrophysics scanner."""

from .common.mask_head import mask_head
from .sparse_rcnn_image_proposals_r50_xray import (
    dataloader,
    hooks,
    lr_multiplier,
    model,
    optimizer,
    test,
    train,
    writers,
)

model.mask_head = mask_head
dataloader.train.mapper.with_masks = True
hooks.best_checkpoint.metric = "segm/AP"

train.output_dir = "output/sparse_rcnn_mask_r50_xray"
