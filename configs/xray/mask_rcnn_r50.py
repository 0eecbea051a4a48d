"""Mask R-CNN R50-FPN, pretrained on COCO, on the astrophysics scanner."""

from ..common.data.xray_recipe import dataloader
from ..common.hooks import hooks
from ..common.models.mask_rcnn_fpn import model
from ..common.optim import sgd as optimizer
from ..common.schedule import cosine as lr_multiplier
from ..common.test import test
from ..common.train import train
from ..common.writers import writers

model.roi_heads.num_classes = 13  # of the data set's JSON
model.roi_heads.batch_size_per_image = 128  # a bag holds few items, of which 512 proposals would be mostly background

dataloader.train.dataset.names = "xray_astrophysics_train"
dataloader.test.dataset.names = "xray_astrophysics_val"
dataloader.train.total_batch_size = 8

optimizer.lr = 0.0008579  # for a batch of 8, from a search with pretrained weights

train.output_dir = "output/mask_rcnn_r50"
train.init_checkpoint = "detectron2://COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl"
train.max_iter = 5000
train.eval_period = 500
