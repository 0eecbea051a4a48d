"""PointRend's mask head, for `model.roi_heads` of any R-CNN that has no `mask_pooler` then."""

from detectron2.config import LazyCall as L

from xray_lazy.modeling.point_rend import PointRendMaskHead

mask_head = L(PointRendMaskHead)(
    num_classes="${model.roi_heads.num_classes}",
    in_channels="${model.backbone.out_channels}",
    in_features="${model.roi_heads.mask_in_features}",
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
)
