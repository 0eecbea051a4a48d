"""Faster R-CNN R50-FPN on DvXray: views are detected apart, and both views of a bag are one bag in screening."""

from detectron2.config import LazyCall as L

from xray_lazy.data.bag_sampling import BagEpochs

from ..xray.faster_rcnn_r50 import dataloader, hooks, lr_multiplier, model, optimizer, test, train, writers

model.roi_heads.num_classes = 15

# the set names bags and views: P03152_OL.png and P03152_SD.png. A bag alarms by the best of its views, or by weights
# of `tools/analyze.py fuse-views`, which dataloader.evaluator.screening.view_fusion names
dataloader.train.dataset.names, dataloader.test.dataset.names = "xray_dvxray_train", "xray_dvxray_val"
# a batch has both views
dataloader.train.sampler = L(BagEpochs)(seed="${train.seed}", fraction=1.0, balance=dataloader.train.sampler.balance)

train.output_dir = "output/dvxray_faster_rcnn_r50"
