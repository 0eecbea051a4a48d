"""Mask R-CNN with a ConvNeXt-T that DINOv3 (Siméoni et al., 2025) pretrained without labels, on astrophysics.

It needs timm; the weights have a licence of their own (DINOv3's).
"""

from .mask_rcnn_convnext_tiny import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.backbone.bottom_up.name = "convnext_tiny.dinov3_lvd1689m"

train.output_dir = "output/mask_rcnn_dinov3_convnext_tiny"
