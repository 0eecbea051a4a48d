"""Sparse R-CNN with a ResNet-50 FPN and 100 learned proposals, with the published settings."""

import math

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.box_regression import Box2BoxTransform
from sparse_rcnn.classification import FocalClassification
from sparse_rcnn.detector import SparseRCNN
from sparse_rcnn.dynamic_head import DynamicHead
from sparse_rcnn.dynamic_stage import DynamicStage
from sparse_rcnn.matching import HungarianMatcher
from sparse_rcnn.proposal_boxes import LearnedProposalBoxes
from sparse_rcnn.set_loss import SetCriterion

from xray_lazy.config import get_config
from xray_lazy.modeling.region_pooling import RegionPooler

model = L(SparseRCNN)(
    num_classes=80,
    num_proposals=100,
    hidden_dim=256,
    backbone=L(FPN)(
        bottom_up=L(ResNet)(
            stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
            # as torchvision's ResNets, whose ImageNet weights the recipes start from
            stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=False, norm="FrozenBN"),
            out_features=["res2", "res3", "res4", "res5"],
            freeze_at=2,
        ),
        in_features="${.bottom_up.out_features}",
        out_channels="${model.hidden_dim}",
        norm="",
    ),
    in_features=["p2", "p3", "p4", "p5"],
    classification=L(FocalClassification)(
        num_classes="${model.num_classes}", alpha=0.25, gamma=2.0, prior_probability=0.01
    ),
    init_proposal_boxes=L(LearnedProposalBoxes)(num_proposals="${model.num_proposals}", start="picture"),
    head=L(DynamicHead)(
        num_stages=6,
        box_pooler=L(RegionPooler)(
            output_size=7, scales=(1 / 4, 1 / 8, 1 / 16, 1 / 32), sampling_ratio=2, pooler_type="ROIAlignV2"
        ),
        stage=L(DynamicStage)(
            classification="${model.classification}",
            box_transform=L(Box2BoxTransform)(weights=(2.0, 2.0, 1.0, 1.0), scale_clamp=math.log(100_000 / 16)),
            pooler_resolution="${model.head.box_pooler.output_size}",
            hidden_dim="${model.hidden_dim}",
            num_heads=8,
            feedforward_dim=2048,
            dynamic_dim=64,
            num_class_layers=1,
            num_box_layers=3,
            dropout=0.0,
        ),
    ),
    criterion=L(SetCriterion)(
        classification="${model.classification}",
        matcher=L(HungarianMatcher)(
            classification="${model.classification}", class_weight=2.0, l1_weight=5.0, giou_weight=2.0
        ),
        class_weight=2.0,
        l1_weight=5.0,
        giou_weight=2.0,
    ),
    mask_head=None,
    denoising=None,
    supervise_proposal_boxes=False,
    detections_per_image="${model.num_proposals}",
    **get_config("common/models/statistics.py").imagenet_rgb,
    input_format="RGB",
)
