"""PointRend on Mask R-CNN with a ResNet-50 FPN, after Kirillov et al., CVPR 2020, with detectron2's settings."""

from detectron2.config import LazyCall as L

from xray_lazy.modeling.point_rend import PointRendMaskHead

from .mask_rcnn_fpn import model

model.roi_heads.update(
    mask_in_features=["p2"],
    mask_pooler=None,
    mask_head=L(PointRendMaskHead)(
        num_classes="${..num_classes}",
        in_channels="${model.backbone.out_channels}",
        in_features="${..mask_in_features}",
        scales=(1 / 4,),
        pooler_size=14,
        coarse_size=7,
        coarse_dim=256,
        fc_dims=[1024, 1024],
        point_dims=[256, 256, 256],
        train_points=196,
        oversample_ratio=3,
        uncertain_share=0.75,
        subdivision_steps=5,  # to 224 x 224
        subdivision_points=784,
        loss_weight=1.0,
    ),
)
