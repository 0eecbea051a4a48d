"""A mask branch for Sparse R-CNN, with the settings of QueryInst (Fang et al., ICCV 2021)."""

from detectron2.config import LazyCall as L
from sparse_rcnn.mask_head import DynamicMaskHead, DynamicMaskStage

from xray_lazy.modeling.region_pooling import RegionPooler

mask_head = L(DynamicMaskHead)(
    num_stages="${model.head.num_stages}",
    mask_pooler=L(RegionPooler)(
        output_size=14, scales="${model.head.box_pooler.scales}", sampling_ratio=2, pooler_type="ROIAlignV2"
    ),
    stage=L(DynamicMaskStage)(
        num_classes="${model.num_classes}",
        class_agnostic=False,
        hidden_dim="${model.hidden_dim}",
        dynamic_dim="${model.head.stage.dynamic_dim}",
        num_convs=4,
    ),
    loss_weight=8.0,
)
