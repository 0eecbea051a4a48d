"""The sets of `xray.py`, augmented as it brought the most on real scans: docs/augmentation.md."""

from .xray import dataloader
from .xray_few_epochs import augmentations, balance, mixing

resize = dataloader.train.mapper.augmentations[0]
dataloader.train.mapper.update(augmentations=[resize, *augmentations[1:]], mixing=mixing)
dataloader.train.sampler.balance = balance
