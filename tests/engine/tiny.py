"""The demo's Mask R-CNN, as small as it gets, on the set in the folder $TINY_SET."""

import os

from tests.engine.demo_config import demo_config

base = demo_config()
dataloader, hooks, lr_multiplier, model = base.dataloader, base.hooks, base.lr_multiplier, base.model
optimizer, train, writers = base.optimizer, base.train, base.writers
del base

model.backbone.out_channels = 16
model.proposal_generator.update(pre_nms_topk=(50, 50), post_nms_topk=(20, 20), batch_size_per_image=16)
model.roi_heads.update(num_classes=2, batch_size_per_image=8)
model.roi_heads.box_head.fc_dims = [16]
model.roi_heads.box_predictor.input_shape.channels = 16
model.roi_heads.mask_head.conv_dims = [16, 16]

tiny_set = os.environ["TINY_SET"]
source = {"json_file": f"{tiny_set}/annotations.json", "image_root": f"{tiny_set}/images", "name": "tiny"}
for loader in (dataloader.train, dataloader.test):
    loader.dataset.names = source
    loader.num_workers = 0
    loader.mapper.augmentations[0].update(max_size=64)
dataloader.train.mapper.augmentations[0].short_edge_length = (48,)
dataloader.test.mapper.augmentations[0].short_edge_length = 48
dataloader.train.total_batch_size = 2

train.update(output_dir="output/tiny", max_iter=4, log_period=1, eval_period=2)
train.checkpointer.period = 2
writers.wandb.mode = "disabled"
writers.json.window_size = 1  # the values themselves, which a resumed run repeats, where medians forget what was before
hooks.prediction_pictures.count = 2
hooks.evaluation_media.update(count=2, worst=1)
hooks.report.enabled = False
