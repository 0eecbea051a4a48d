"""Mask R-CNN with a ViT-B (ViTDet), 100 epochs of COCO after MAE, on the astrophysics scanner. It needs timm."""

from ..common.data.large_scale_jitter import augmentations
from ..common.models.mask_rcnn_vitdet import model
from ..common.optim import adamw as optimizer
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, test, train, writers

model.roi_heads.num_classes = 13
model.roi_heads.batch_size_per_image = 128

# images are filled up to 1024 x 1024
dataloader.train.mapper.update(augmentations=augmentations, recompute_boxes=True)
dataloader.test.mapper.augmentations[0].update(short_edge_length=1024, max_size=1024)
test.tta.model.update(short_edge_lengths=[480, 528, 576], max_size=1024)

# decay and layers as published; the rate is 1e-4 there, for a batch of 64, and not tuned for X-rays
optimizer.update(lr=3.5e-5, weight_decay=0.1)
optimizer.params.update(
    weight_decay_bias=None,
    weight_decays={"backbone.net.pos_embed": 0.0},
    layer_decay=0.7,
    layers=["backbone.net.p*_embed", *(f"backbone.net.blocks.{block}" for block in range(12))],
)

train.amp.enabled = True
train.output_dir = "output/mask_rcnn_vitdet_b"
train.init_checkpoint = "detectron2://ViTDet/COCO/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl"
