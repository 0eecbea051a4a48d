"""A small Sparse R-CNN that learns the generated set of `make demo` from scratch on two CPU cores."""

from xray_lazy.config import get_config

from .common.model import model

# a small ResNet-18, data and running of the demo's Mask R-CNN
demo = get_config("xray/mask_rcnn_r18_demo.py")
dataloader, hooks, writers, test = demo.dataloader, demo.hooks, demo.writers, demo.test
train, lr_multiplier = demo.train, demo.lr_multiplier
model.backbone.bottom_up = demo.model.backbone.bottom_up
model.update(pixel_mean=demo.model.pixel_mean, pixel_std=demo.model.pixel_std, input_format="BGR")
del demo

model.update(num_classes=5, num_proposals=25, hidden_dim=64)
# items of 15 to 90 pixels: stride 8 is fine enough
model.backbone.bottom_up.out_features = ["res3", "res4", "res5"]
model.in_features = ["p3", "p4", "p5"]
model.head.box_pooler.update(scales=(1 / 8, 1 / 16, 1 / 32), sampling_ratio=1)
# a short training from scratch can't spread proposals that all start from the whole image
model.init_proposal_boxes.start = "grid"
model.head.num_stages = 3
model.head.stage.update(feedforward_dim=256, dynamic_dim=32, num_box_layers=2)

# many iterations matter more to it than resolution
dataloader.train.mapper.augmentations[0].update(short_edge_length=(144,), max_size=240)
dataloader.test.mapper.augmentations[0].update(short_edge_length=144, max_size=240)
dataloader.train.mapper.with_masks = False
test.tta.model.update(short_edge_lengths=[132, 144, 156], max_size=300)
hooks.best_checkpoint.metric = "bbox/AP"
# scores of the focal loss are low
hooks.prediction_pictures.score_threshold = hooks.evaluation_media.score_threshold = 0.3

optimizer = get_config("common/optim.py").adamw
optimizer.update(lr=5e-4, weight_decay=1e-4)
lr_multiplier.update(warmup_iters=100)
train.clip_gradients.update(enabled=True, max_norm=1.0)

train.update(max_iter=1600, eval_period=400, output_dir="output/sparse_rcnn_tiny_demo")
