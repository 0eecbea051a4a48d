"""The small Sparse R-CNN with proposals from the image, denoising, and averaged weights."""

from .common.denoising import denoising
from .common.proposal_boxes import image_proposals
from .sparse_rcnn_tiny_demo import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.init_proposal_boxes = image_proposals
model.num_proposals = 50
model.head.num_stages = 2
model.denoising = denoising
model.denoising.num_queries = 30

dataloader.train.total_batch_size = 8
optimizer.lr = 1e-3
hooks.ema.update(decay=0.995, evaluate="instead")
train.clip_gradients.max_norm = 10.0
train.channels_last = True

train.update(max_iter=1100, eval_period=550, output_dir="output/sparse_rcnn_tiny_image_proposals_demo")
