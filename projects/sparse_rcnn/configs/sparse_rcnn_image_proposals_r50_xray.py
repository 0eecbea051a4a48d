"""Sparse R-CNN with proposals from the image, denoising and two stages, on the astrophysics scanner."""

from .common.denoising import denoising
from .common.proposal_boxes import image_proposals
from .sparse_rcnn_r50_xray import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.init_proposal_boxes = image_proposals
model.init_proposal_boxes.feature_level = [1, 2, 3]  # p3 to p5: a cell of 8 pixels is fine enough to find items
model.head.num_stages = 2
model.denoising = denoising

# that of DDQ for 16 images, whose backbone learns at a tenth of it
optimizer.update(lr=1e-4, weight_decay=0.05)
optimizer.params.lr_factors = {"backbone.bottom_up": 0.1}
hooks.ema.update(decay=0.999, evaluate="instead")

train.output_dir = "output/sparse_rcnn_image_proposals_r50_xray"
