"""A small Mask R-CNN that learns the generated set of `make demo` from scratch on two CPU cores."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BasicBlock

from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, train, writers

# ResNet-18 with half its channels; batch norm must learn too, over all processes so that their number changes nothing
norm = "naiveSyncBN"
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
model.pixel_mean, model.pixel_std = [202.0, 226.0, 231.0], [55.0, 43.0, 53.0]  # of the generated pictures

# items of 20 to 120 pixels in pictures of 320x192: proposals from stride 8 on, few of them, and few channels
model.backbone.out_channels = 64
model.proposal_generator.in_features = ["p3", "p4", "p5", "p6"]
model.proposal_generator.anchor_generator.update(sizes=[[24], [48], [80], [120]], strides=[8, 16, 32, 64])
model.proposal_generator.update(pre_nms_topk=(500, 300), post_nms_topk=(200, 100), batch_size_per_image=64)
model.roi_heads.update(num_classes=5, batch_size_per_image=64)
model.roi_heads.box_pooler.sampling_ratio = model.roi_heads.mask_pooler.sampling_ratio = 2
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.box_predictor.input_shape.channels = 256
model.roi_heads.mask_head.conv_dims = [64, 64, 64]

dataloader.train.dataset.names, dataloader.test.dataset.names = "xray_demo_train", "xray_demo_val"
dataloader.train.mapper.augmentations[0].update(short_edge_length=(192,), max_size=320)
dataloader.test.mapper.augmentations[0].update(short_edge_length=192, max_size=320)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.update(num_workers=1)

optimizer.update(lr=0.02, momentum=0.9, weight_decay=1e-4)
lr_multiplier.update(warmup_iters=30)

train.output_dir = "output/demo"
train.init_checkpoint = ""
train.max_iter = 450
train.eval_period = 225
train.clip_gradients.update(enabled=True, max_norm=10.0)
train.checkpointer.period = 150
