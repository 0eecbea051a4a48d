"""Mask R-CNN on a plain ViT-B with a simple pyramid (ViTDet: Li et al., ECCV 2022), with detectron2's settings."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid

from xray_lazy.modeling.plain_vit import PlainViT

from .mask_rcnn_4conv1fc import model
from .statistics import imagenet_rgb

model.backbone = L(SimpleFeaturePyramid)(
    net=L(PlainViT)(
        img_size=1024,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        window_size=14,
        window_block_indexes=[0, 1, 3, 4, 6, 7, 9, 10],  # the other four look at the whole image
        use_rel_pos=True,
        out_feature="last_feat",
    ),
    in_feature="${.net.out_feature}",
    out_channels=256,
    scale_factors=(4.0, 2.0, 1.0, 0.5),
    top_block=L(LastLevelMaxPool)(),
    norm="LN",
    square_pad=1024,  # images must not be larger
)
model.update(input_format="RGB", **imagenet_rgb)
