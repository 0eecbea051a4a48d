"""detectron2's plain ViT with the LayerNorm of its published weights, which a config can't write down."""

import warnings
from functools import partial
from typing import Any

from detectron2.modeling.backbone.vit import ViT
from torch import nn

from xray_lazy.modeling.timm_backbone import import_timm


class PlainViT(ViT):
    """A ViT whose blocks look at windows or at the whole image (Li et al., ECCV 2022).

    Args:
        arguments: of detectron2's `ViT`, without its `norm_layer`.

    Raises:
        UserError: timm, which it takes some layers of, is not installed.
    """

    def __init__(self, **arguments: Any):
        import_timm()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # detectron2 takes them from where timm had them before
            super().__init__(norm_layer=partial(nn.LayerNorm, eps=1e-6), **arguments)
