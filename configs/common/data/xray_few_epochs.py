"""Some hundred scans and about 25 epochs, in which images of half the size and mosaics cost more than they bring.

An experiment takes `augmentations` and `mixing` for `dataloader.train.mapper`, and `balance` for its sampler.
"""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from .mixing import background_mixing
from .xray_few_scans import augmentations as for_many_epochs
from .xray_few_scans import balance

mixing = [background_mixing]
augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=(160, 176, 192, 208, 224, 240), sample_style="choice", max_size=352),
    *for_many_epochs[1:],
]
