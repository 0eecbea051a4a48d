"""Large-scale jitter for bags: a tenth to twice the size in a white square, any quarter turn, either mirror image."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.quarter_turns import RandomQuarterTurn

size = 1024
augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=size, target_width=size),
    L(T.FixedSizeCrop)(crop_size=(size, size), pad_value=255),
    L(RandomQuarterTurn)(turns=(0, 1, 2, 3)),
    L(T.RandomFlip)(horizontal=True),
]
