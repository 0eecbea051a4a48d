"""The small Sparse R-CNN of the demo, as small as it gets, on the set of `tests/engine/tiny.py`."""

from xray_lazy.config import get_config

from ..engine.tiny import dataloader, hooks, lr_multiplier, train, writers  # noqa: F401

base = get_config("projects/sparse_rcnn/sparse_rcnn_tiny_demo.py")
model, optimizer = base.model, base.optimizer
del base

model.update(num_classes=2, num_proposals=10, hidden_dim=16)
model.head.num_stages = 2
model.head.stage.update(num_heads=4, feedforward_dim=32, dynamic_dim=8)
dataloader.train.mapper.with_masks = False
hooks.best_checkpoint.metric = "bbox/AP"
train.clip_gradients.update(enabled=True, max_norm=1.0)
train.output_dir = "output/tiny_sparse_rcnn"
