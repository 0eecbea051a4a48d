"""Faster R-CNN for some hundred scans and a CPU that multiplies bfloat16, from ImageNet, half of it frozen."""

from ..common.data.xray_few_scans import augmentations, balance, mixing
from ..common.models.faster_rcnn_lite0 import model
from ..common.optim import adamw as optimizer
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, test, train, writers

model.roi_heads.num_classes = 13

dataloader.train.mapper.update(augmentations=augmentations, mixing=mixing)
dataloader.train.sampler.balance = balance
dataloader.train.mapper.with_masks = False
dataloader.train.update(total_batch_size=16, num_workers=1, similar_shapes=8)
dataloader.test.mapper.augmentations[0].update(short_edge_length=208, max_size=320)
dataloader.test.update(batch_size=8, num_workers=1)
test.tta.model.update(short_edge_lengths=[208, 320, 416], max_size=640)

optimizer.update(lr=1e-3, weight_decay=0.05)
optimizer.params.lr_factors = {"backbone.bottom_up": 0.2}
lr_multiplier.warmup_iters = 100
hooks.ema.update(decay=0.995, evaluate="instead")
hooks.best_checkpoint.metric = "bbox/AP"

train.output_dir = "output/faster_rcnn_few_scans"
train.init_checkpoint = "timm://tf_efficientnet_lite0.in1k"
train.update(max_iter=2400, channels_last=True)
train.amp.enabled = True
train.clip_gradients.update(enabled=True, max_norm=10.0)
# of all gradients, those of depthwise filters cost a CPU the most
frozen = ("conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.*.conv_dw")
train.freeze = [f"backbone.bottom_up.network.{part}" for part in frozen]
