"""Cascade Mask R-CNN with a ResNet-50 FPN, after Cai and Vasconcelos, CVPR 2018, with detectron2's settings."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import FastRCNNConvFCHead

from xray_lazy.modeling.global_losses import GlobalMeanBoxPredictor
from xray_lazy.modeling.picture_sampling import PictureSeededCascadeROIHeads

from .mask_rcnn_fpn import model

for key in ("box_head", "box_predictor", "proposal_matcher"):
    model.roi_heads.pop(key)

first = "${model.roi_heads.box_predictors.0."  # where a command line sets them for all three
model.roi_heads.update(
    _target_=PictureSeededCascadeROIHeads,
    box_heads=[
        L(FastRCNNConvFCHead)(
            input_shape=L(ShapeSpec)(channels="${model.backbone.out_channels}", height=7, width=7),
            conv_dims=[],
            fc_dims=[1024, 1024],
        )
        for _ in range(3)
    ],
    box_predictors=[
        L(GlobalMeanBoxPredictor)(
            input_shape=L(ShapeSpec)(channels=1024),
            box2box_transform=L(Box2BoxTransform)(weights=(weight, weight, weight / 2, weight / 2)),
            num_classes="${model.roi_heads.num_classes}",
            cls_agnostic_bbox_reg=True,
            test_score_thresh=f"{first}test_score_thresh}}" if stage else 0.05,
            test_nms_thresh=f"{first}test_nms_thresh}}" if stage else 0.5,
            test_topk_per_image=f"{first}test_topk_per_image}}" if stage else 100,
        )
        for stage, weight in enumerate((10.0, 20.0, 30.0))
    ],
    proposal_matchers=[
        L(Matcher)(thresholds=[overlap], labels=[0, 1], allow_low_quality_matches=False) for overlap in (0.5, 0.6, 0.7)
    ],
)
