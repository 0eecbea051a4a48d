"""Sparse R-CNN, ResNet-50, 100 proposals, pretrained on ImageNet, on the astrophysics scanner."""

from xray_lazy.config import get_config

from .sparse_rcnn_r50_100pro_3x import hooks, lr_multiplier, model, optimizer, test, train, writers

model.num_classes = 13  # of the data set's JSON

dataloader = get_config("common/data/xray_recipe.py").dataloader
dataloader.train.mapper.with_masks = False
dataloader.train.total_batch_size = 8

optimizer.lr = 2.5e-5  # COCO's, not tuned for X-rays

# A set of few thousand images: 15k iterations of 8. Weights of COCO instead of ImageNet need far fewer.
train.max_iter = 15_000
train.eval_period = 1000
train.checkpointer.period = 1000
train.output_dir = "output/sparse_rcnn_r50_xray"
