"""A Faster R-CNN for few scans on a CPU: EfficientNet-Lite0 and a thin FPN from stride 8 on."""

from detectron2.config import LazyCall as L

from xray_lazy.modeling.timm_backbone import TimmBackbone

from .mask_rcnn_r18_small import model

for key in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(key)
model.backbone.bottom_up = L(TimmBackbone)(name="tf_efficientnet_lite0", out_features=["res3", "res4", "res5"])
model.pixel_mean, model.pixel_std, model.input_format = [127.0, 127.0, 127.0], [128.0, 128.0, 128.0], "RGB"

levels = ["p3", "p4", "p5"]
# items of 17 to 110 pixels, long ones too; an RPN learns from few of them when several anchors of each count as found
model.proposal_generator.update(in_features=levels, pre_nms_topk=(250, 250))
model.proposal_generator.anchor_generator.update(
    sizes=[[20, 28], [40, 56], [80, 110]], aspect_ratios=[0.3, 0.6, 1.0, 1.7, 3.3], strides=[8, 16, 32]
)
model.proposal_generator.head.num_anchors = 10
model.proposal_generator.anchor_matcher.thresholds = [0.3, 0.5]

model.roi_heads.box_in_features = levels
model.roi_heads.box_pooler.scales = (1 / 8, 1 / 16, 1 / 32)
# rare classes have their boxes from the frequent ones; scores of a short training are low
model.roi_heads.box_predictor.update(cls_agnostic_bbox_reg=True, test_score_thresh=0.01)
