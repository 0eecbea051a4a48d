"""Mask R-CNN R50-FPN of detectron2's new baselines, 400 epochs of COCO with large-scale jitter, on the astrophysics
scanner. It is trained with the same jitter; of scanners, whose items have one size, a narrower one may do more."""

from ..common.data.large_scale_jitter import augmentations
from ..common.models.mask_rcnn_4conv1fc import model
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, optimizer, test, train, writers

model.roi_heads.num_classes = 13
model.roi_heads.batch_size_per_image = 128

dataloader.train.mapper.update(augmentations=augmentations, recompute_boxes=True)

optimizer.weight_decay = 4e-5  # the published one

train.output_dir = "output/mask_rcnn_r50_lsj"
train.init_checkpoint = "detectron2://new_baselines/mask_rcnn_R_50_FPN_400ep_LSJ/42019571/model_final_14d201.pkl"
