"""How Sparse R-CNN is trained on COCO: 270k iterations of 16 images, as published."""

from xray_lazy.config import get_config

dataloader = get_config("common/data/coco.py").dataloader
hooks = get_config("common/hooks.py").hooks
lr_multiplier = get_config("common/schedule.py").multi_step  # steps at 210k and 250k of 270k
optimizer = get_config("common/optim.py").adamw
test = get_config("common/test.py").test
train = get_config("common/train.py").train
writers = get_config("common/writers.py").writers

dataloader.train.total_batch_size = 16
dataloader.train.mapper.with_masks = False
dataloader.train.mapper.augmentations[0].short_edge_length = tuple(range(480, 801, 32))

# the learning rate is for 16 images; decay on all parameters alike, as published
optimizer.update(lr=2.5e-5, weight_decay=1e-4)
optimizer.params.update(weight_decay_norm=None, weight_decay_bias=None)
lr_multiplier.update(warmup_iters=1000, warmup_factor=0.01)
train.clip_gradients.update(enabled=True, max_norm=1.0)
train.compile.update(parts=["backbone", "head.head_series.*"], dynamic=None)  # stages do not see sizes of images

train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.max_iter = 270_000
train.eval_period = 10_000
train.checkpointer.period = 5000
hooks.best_checkpoint.metric = "bbox/AP"
hooks.prediction_pictures.score_threshold = 0.3  # scores of the focal loss are low
hooks.evaluation_media.score_threshold = 0.3
