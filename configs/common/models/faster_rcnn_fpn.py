"""Faster R-CNN with a ResNet-50 FPN: Mask R-CNN without its mask branch, for sets that have boxes only."""

from .mask_rcnn_fpn import model

for key in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(key)
