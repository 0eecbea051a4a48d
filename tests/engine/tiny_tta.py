"""The tiny Mask R-CNN with a node for test-time augmentation at its small scales."""

from tests.engine.demo_config import demo_config

from .tiny import dataloader, hooks, lr_multiplier, model, optimizer, train, writers  # noqa: F401

test = demo_config().test
test.tta.model.update(short_edge_lengths=[40, 48], max_size=80)
