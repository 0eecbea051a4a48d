"""A complete experiment in a few lines: imports nodes, then assigns."""

import math

import torch

from .common.nodes import backbone, dataloader, optimizer
from .common.train import train

num_classes = 13  # a plain number: a constant of the file, no key
model = {"net": backbone, "num_classes": num_classes, "activation": torch.nn.ReLU}
optimizer.params = []
train.max_iter = 60 if math.pi > 3 else 0
dataloader.train.flip = 0.25
hooks = {"early_stopping": {"patience": 5, "metric": "bbox/AP"}}
del backbone


def helper():
    """Not a config object either."""
