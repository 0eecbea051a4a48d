"""Faster R-CNN R50-FPN on DvXray: views are images in training, and in screening both views of a bag are one bag."""

from ..xray.faster_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.roi_heads.num_classes = 15

dataloader.train.dataset.names, dataloader.test.dataset.names = "xray_dvxray_train", "xray_dvxray_val"
# a bag alarms by the best detection of its views: P03152_OL.png and P03152_SD.png
dataloader.evaluator.screening.group_by = "^(.+)_[^_]+$"

train.output_dir = "output/dvxray_faster_rcnn_r50"
