"""The small Sparse R-CNN with a mask branch."""

from .common.mask_head import mask_head
from .sparse_rcnn_tiny_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.mask_head = mask_head
model.mask_head.stage.num_convs = 2
dataloader.train.mapper.with_masks = True
hooks.best_checkpoint.metric = "segm/AP"

train.output_dir = "output/sparse_rcnn_tiny_mask_demo"
