"""PointRend R50-FPN, pretrained on COCO, on the astrophysics scanner: masks of 224 x 224, for thin items."""

from ..common.models.point_rend_fpn import model
from .mask_rcnn_r50 import dataloader, hooks, lr_multiplier, optimizer, test, train, writers

model.roi_heads.num_classes = 13
model.roi_heads.batch_size_per_image = 128

train.output_dir = "output/point_rend_r50"
train.init_checkpoint = (
    "detectron2://PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco/164955410/model_final_edd263.pkl"
)
