"""Some hundred scans, which a training knows by heart after 20 epochs, as other bags and scanners would show them.

An experiment takes `augmentations` and `mixing` for `dataloader.train.mapper`, and `balance` for its sampler.
"""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from xray_lazy.data.augmentation.recording import RandomScannerResponse
from xray_lazy.data.balance import RepeatFactors

from .mixing import mosaic

mosaic.probability = 0.25
mixing = [mosaic]
augmentations = [
    # down to half the size, which items have where several bags are on an image
    L(T.ResizeShortestEdge)(
        short_edge_length=(112, 128, 144, 160, 176, 192, 208, 224, 240), sample_style="choice", max_size=352
    ),
    L(T.RandomFlip)(horizontal=True),
    L(T.RandomFlip)(horizontal=False, vertical=True),
    L(RandomScannerResponse)(gain=(0.85, 1.08), attenuation=(0.7, 1.4), channels=0.15, noise=(0.0, 6.0)),
]
balance = [L(RepeatFactors)(threshold=0.1)]
