"""Mask R-CNN as detectron2's new baselines have it: norms everywhere, 4 convolutions in the box head, 2 in the RPN."""

from .mask_rcnn_fpn import model

# "BN" is trained with the statistics of all processes, as the published SyncBN; "FrozenBN" takes those of the weights
model.backbone.norm = "BN"
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stem.norm = model.backbone.bottom_up.stages.norm = "${model.backbone.norm}"
model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.box_head.update(conv_dims=[256, 256, 256, 256], fc_dims=[1024], conv_norm="${model.backbone.norm}")
model.roi_heads.mask_head.conv_norm = "${model.backbone.norm}"
