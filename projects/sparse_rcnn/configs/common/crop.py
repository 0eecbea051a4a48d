"""The augmentation of the 300-proposal recipe: every second image is cropped before it is resized (as DETR's)."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

scales = tuple(range(480, 801, 32))
augmentations = [
    L(T.RandomFlip)(horizontal=True),
    L(T.RandomApply)(
        tfm_or_aug=L(T.AugmentationList)(
            augs=[
                L(T.ResizeShortestEdge)(short_edge_length=(400, 500, 600), sample_style="choice"),
                L(T.RandomCrop)(crop_type="absolute_range", crop_size=(384, 600)),
            ]
        ),
        prob=0.5,
    ),
    L(T.ResizeShortestEdge)(short_edge_length=scales, sample_style="choice", max_size=1333),
]
