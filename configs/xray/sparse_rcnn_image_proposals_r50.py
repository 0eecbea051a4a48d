"""Sparse R-CNN R50-FPN with proposals from the image, on the astrophysics scanner; see projects/sparse_rcnn."""

from xray_lazy.config import get_config

project = get_config("projects/sparse_rcnn/sparse_rcnn_image_proposals_r50_xray.py")
dataloader, hooks, lr_multiplier, model = project.dataloader, project.hooks, project.lr_multiplier, project.model
optimizer, test, train, writers = project.optimizer, project.test, project.train, project.writers
del project

train.output_dir = "output/sparse_rcnn_image_proposals_r50"
