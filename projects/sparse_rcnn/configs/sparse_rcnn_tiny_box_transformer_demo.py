"""The small Sparse R-CNN with proposal boxes that look at the image first."""

from .common.proposal_boxes import box_transformer
from .sparse_rcnn_tiny_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.init_proposal_boxes = box_transformer
model.init_proposal_boxes.update(start="grid", feature_level=[0, 1, 2], num_heads=4)
model.init_proposal_boxes.update(feedforward_dim=256, mlp_hidden_dim=64)

train.output_dir = "output/sparse_rcnn_tiny_box_transformer_demo"
