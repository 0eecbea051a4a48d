"""Augmentations for scans: bags have no up, items are left whole, and scanners differ from day to day.

An experiment takes them by `dataloader.train.mapper.augmentations = augmentations`.
"""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.quarter_turns import RandomQuarterTurn
from xray_lazy.data.augmentation.recording import RandomJpeg, RandomScannerResponse
from xray_lazy.data.augmentation.whole_item_crop import RandomWholeItemCrop

augmentations = [
    L(RandomWholeItemCrop)(sides=(0.6, 1.0), tries=10),
    L(T.ResizeShortestEdge)(short_edge_length=(640, 672, 704, 736, 768, 800), sample_style="choice", max_size=1333),
    # half turns leave wide images wide: in a batch of wide and tall ones all are filled up to squares
    L(RandomQuarterTurn)(turns=(0, 2)),
    L(T.RandomFlip)(horizontal=True),
    L(RandomScannerResponse)(gain=(0.92, 1.04), attenuation=(0.85, 1.2), channels=0.05, noise=(0.0, 4.0)),
    L(RandomJpeg)(quality=(60, 95), image_format="${dataloader.train.mapper.image_format}"),
]
