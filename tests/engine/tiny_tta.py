"""The tiny Mask R-CNN with a node for test-time augmentation at its small scales."""

from xray_lazy.config import get_config

from .tiny import dataloader, hooks, lr_multiplier, model, optimizer, train, writers  # noqa: F401

test = get_config("xray/mask_rcnn_r18_demo.py").test
test.tta.model.update(short_edge_lengths=[40, 48], max_size=80)
