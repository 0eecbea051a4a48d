"""Mask R-CNN R101-FPN on PIDray as in its published figures, 500x500 and 12 epochs; see docs/datasets.md."""

from ..common.data.xray import dataloader
from ..common.schedule import multi_step as lr_multiplier
from ..xray.mask_rcnn_r50 import hooks, model, optimizer, test, train, writers

model.backbone.bottom_up.stages.depth = 101
model.roi_heads.num_classes = 12

dataloader.train.dataset.names = "xray_pidray_train_all"
dataloader.test.dataset.names = ["xray_pidray_test_easy", "xray_pidray_test_hard", "xray_pidray_test_hidden"]
dataloader.test_apart = True
dataloader.train.mapper.augmentations[0].update(short_edge_length=(500,), max_size=500)
dataloader.test.mapper.augmentations[0].update(short_edge_length=500, max_size=500)
dataloader.train.total_batch_size = 16

optimizer.update(lr=0.02, momentum=0.9, weight_decay=1e-4)
lr_multiplier.milestones = [8 / 12, 11 / 12]
train.max_epochs = 12
train.eval_period = 0  # once, at the end: the test sets of the figures choose nothing
hooks.best_checkpoint.metric = "segm/AP"
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-101.pkl"

train.output_dir = "output/pidray_mask_rcnn_r101"
