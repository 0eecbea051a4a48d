"""The small Sparse R-CNN with proposals from the image."""

from .common.proposal_boxes import image_proposals
from .sparse_rcnn_tiny_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.init_proposal_boxes = image_proposals
model.num_proposals = 50
model.head.num_stages = 2

train.output_dir = "output/sparse_rcnn_tiny_image_proposals_demo"
