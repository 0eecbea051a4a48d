"""A Mask R-CNN for small images that learns from scratch on a CPU: ResNet-18 with half its channels, a thin FPN."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock

from .mask_rcnn_fpn import model

# without pretrained weights batch norm must learn; where there are several processes, it does over all of them
norm = "BN"
model.backbone.bottom_up.stem.update(out_channels=32, norm=norm)
model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BasicBlock,
        num_blocks=2,
        stride_per_block=[stride, 1],
        in_channels=in_channels,
        out_channels=out_channels,
        norm=norm,
    )
    for in_channels, out_channels, stride in [(32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2)]
]
model.backbone.bottom_up.freeze_at = 0
model.backbone.out_channels = 64

# items of 20 to 120 pixels in images of 320x192: proposals from stride 8 on, and few of them
model.proposal_generator.in_features = ["p3", "p4", "p5", "p6"]
model.proposal_generator.anchor_generator.update(sizes=[[24], [48], [80], [120]], strides=[8, 16, 32, 64])
model.proposal_generator.update(pre_nms_topk=(500, 300), post_nms_topk=(200, 100), batch_size_per_image=64)
model.roi_heads.batch_size_per_image = 64
model.roi_heads.box_pooler.sampling_ratio = model.roi_heads.mask_pooler.sampling_ratio = 2
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.box_predictor.input_shape.channels = 256
model.roi_heads.mask_head.conv_dims = [64, 64, 64]
