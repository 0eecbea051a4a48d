"""Parts that put items of a library (`tools/dataset.py threats`), patches of other bags, or other images, into images.

An experiment takes some by `dataloader.train.mapper.mixing = [mosaic, copy_paste, background_mixing]`.
"""

from detectron2.config import LazyCall as L

from xray_lazy.data.augmentation.background_mixing import BackgroundMixing
from xray_lazy.data.augmentation.copy_paste import CopyPaste
from xray_lazy.data.augmentation.mosaic import Mosaic
from xray_lazy.data.augmentation.threat_projection import ThreatProjection

threat_projection = L(ThreatProjection)(
    library="datasets/xray/threats",
    # how many, and the probabilities that bags without items and those with some get any
    items=(1, 3),
    empty=0.5,
    occupied=0.25,
    # of the items' size; all turn by quarters, and by up to this many degrees more
    scale=(0.9, 1.1),
    rotation=15.0,
    quarter_turns=True,
    mirror=True,
    # share near where the library's items lay in their bags
    near_items=0.5,
    # natural logarithm, of bag and item; share on what is annotated
    most_attenuation=2.0,
    most_overlap=0.2,
    # rare classes more often: 1 by inverse frequency, 0 all equally
    balance=1.0,
    noise=0.0,
    # millimetres, where library and set know them
    pixel_size=None,
    # from the library's classes to the set's; null leaves one out
    names={},
)
copy_paste = L(CopyPaste)(
    probability=0.5,
    items=(1, 3),
    scale=(0.8, 1.25),
    rotation=15.0,
    quarter_turns=True,
    mirror=True,
    most_attenuation=2.0,
    most_overlap=0.2,
)
background_mixing = L(BackgroundMixing)(probability=0.25, patches=(1, 4), size=(0.15, 0.4), strength=(0.3, 0.8))
mosaic = L(Mosaic)(probability=0.5, middle=(0.3, 0.7), scale=(0.5, 1.0), least_visible=0.3)
