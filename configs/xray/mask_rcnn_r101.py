"""Mask R-CNN R101-FPN, pretrained on COCO, on the astrophysics scanner."""

from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.backbone.bottom_up.stages.depth = 101

train.output_dir = "output/mask_rcnn_r101"
train.init_checkpoint = "detectron2://COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl"
