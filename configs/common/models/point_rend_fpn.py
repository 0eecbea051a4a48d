"""PointRend on Mask R-CNN with a ResNet-50 FPN, after Kirillov et al., CVPR 2020, with detectron2's settings."""

from .mask_rcnn_fpn import model
from .point_rend_head import mask_head

model.roi_heads.update(mask_in_features=["p2"], mask_pooler=None, mask_head=mask_head)
