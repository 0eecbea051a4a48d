"""A small Mask R-CNN that learns the generated set of `make demo` from scratch on two CPU cores."""

from ..common.data.xray import dataloader
from ..common.models.mask_rcnn_r18_small import model
from .mask_rcnn_r50 import hooks, lr_multiplier, optimizer, test, train, writers

model.roi_heads.num_classes = 5
model.pixel_mean, model.pixel_std = [202.0, 226.0, 231.0], [55.0, 43.0, 53.0]  # of the generated images

dataloader.train.dataset.names, dataloader.test.dataset.names = "xray_demo_train", "xray_demo_val"
dataloader.train.mapper.augmentations[0].update(short_edge_length=(192,), max_size=320)
dataloader.test.mapper.augmentations[0].update(short_edge_length=192, max_size=320)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.update(num_workers=1)
test.tta.model.update(short_edge_lengths=[176, 192, 208], max_size=400)

optimizer.update(lr=0.02, momentum=0.9, weight_decay=1e-4)
lr_multiplier.update(warmup_iters=30)

train.output_dir = "output/demo"
train.init_checkpoint = ""
train.max_iter = 450
train.eval_period = 225
train.channels_last = True  # a tenth faster on a CPU
train.clip_gradients.update(enabled=True, max_norm=10.0)
train.checkpointer.period = 150
