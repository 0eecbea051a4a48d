"""Large-scale jitter (Ghiasi et al., CVPR 2021): a tenth to twice the size, in a square that is cut or filled up."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

size = 1024
augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=size, target_width=size),
    L(T.FixedSizeCrop)(crop_size=(size, size)),
    L(T.RandomFlip)(horizontal=True),
]
