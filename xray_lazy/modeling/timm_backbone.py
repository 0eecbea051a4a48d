"""Any model of timm (PyTorch image models) as a backbone, and its pretrained weights as `timm://<model>`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.errors import UserError
from xray_lazy.modeling.convolutions import join_frozen_norms
from xray_lazy.utils.atomic_file import atomic_writer

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class TimmBackbone(Backbone):
    """The feature maps of a timm model under the names of detectron2's ResNets.

    Args:
        name: as timm has it, with or without the tag of its weights: `convnext_tiny.fb_in22k`.
        out_features: of res2, res3, res4 and res5, which have strides 4 to 32.
        frozen_batch_norm: use the statistics and factors of the pretrained weights, as is usual where a batch is
            small. False trains them; from scratch that must be.
        arguments: for `timm.create_model`, such as `drop_path_rate=0.1`; for Swin `strict_img_size=False`.

    Its weights are random; `train.init_checkpoint="timm://<name>"` loads pretrained ones. They are for RGB images
    with `imagenet_rgb` of `configs/common/models/statistics.py`.

    Raises:
        UserError: timm is not installed, has no such model, or the model has no feature maps of these strides.
    """

    def __init__(
        self,
        name: str,
        out_features: Sequence[str] = tuple(STRIDES),
        frozen_batch_norm: bool = True,
        **arguments: Any,
    ):
        super().__init__()
        self.network = create_network(name, **arguments)
        self._places = _places(name, self.network, out_features)
        self._channels = {feature: self.network.feature_info.channels()[at] for feature, at in self._places.items()}
        self._channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        if frozen_batch_norm:
            self.network = import_timm().layers.freeze_batch_norm_2d(self.network)
            join_frozen_norms(self.network, (FrozenBatchNorm2d, import_timm().layers.FrozenBatchNormAct2d))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Feature maps `(N, C, H / stride, W / stride)` by name, of images `(N, 3, H, W)`."""
        maps = self.network(images)
        features = {name: maps[place] for name, place in self._places.items()}
        return {name: f.permute(0, 3, 1, 2) for name, f in features.items()} if self._channels_last else features

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=self._channels[name], stride=STRIDES[name]) for name in self._places}

    @property
    def size_divisibility(self) -> int:
        return max(STRIDES[name] for name in self._places)


class TimmWeights(PathHandler):
    """`timm://<model>`: a model's pretrained weights, fetched once by timm itself and kept in detectron2's cache."""

    PREFIX = "timm://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path.removeprefix(self.PREFIX)
        file = Path(get_cache_dir()) / "timm" / f"{name}.pth"
        if force or not file.is_file():
            weights = without_batch_counts(create_network(name, pretrained=True).state_dict())
            weights = {f"network.{key}": value for key, value in weights.items()}
            with atomic_writer(file) as stream:
                torch.save({"model": weights, "matching_heuristics": True}, stream)
        return str(file)

    def _open(self, path: str, mode: str = "r", **kwargs: Any):
        return PathManager.open(self._get_local_path(path), mode)


PathManager.register_handler(TimmWeights(), allow_override=True)


def create_network(name: str, **arguments: Any) -> nn.Module:
    """timm's model `name`, which returns a list of feature maps; raises as `TimmBackbone`."""
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        raise UserError(f"timm has no model {architecture}", did_you_mean(near) or "timm.list_models() has all of them")
    weights = timm.list_pretrained(f"{architecture}*") if tag else []
    tags = [known.partition(".")[2] for known in weights if known.partition(".")[0] == architecture]
    if tag and tag not in tags:
        fix = did_you_mean([f"{architecture}.{known}" for known in nearest(tag, tags)])
        fix = fix or f"there are {', '.join(f'{architecture}.{known}' for known in tags) or 'none for it'}"
        raise UserError(f"timm has no weights {name}", fix)
    try:
        return timm.create_model(name, features_only=True, **arguments)
    except TypeError as error:
        raise UserError(f"timm can't make a backbone of {name}: {error}", "correct the arguments") from None


def without_batch_counts(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of batch norm that may be frozen, which doesn't count batches."""
    return {name: value for name, value in weights.items() if "num_batches_tracked" not in name}


def import_timm():
    try:
        import timm
    except ImportError:
        raise UserError("timm is not installed", "pip install timm") from None
    return timm


def _places(name: str, network: nn.Module, out_features: Sequence[str]) -> dict[str, int]:
    """At which index of the network's output each feature is."""
    strides = network.feature_info.reduction()
    last_of_stride = {stride: place for place, stride in enumerate(strides)}
    missing = [feature for feature in out_features if STRIDES.get(feature) not in last_of_stride]
    if missing:
        raise UserError(
            f"{name} has no feature map {', '.join(missing)}: its strides are {', '.join(map(str, strides))}",
            f"take a model with a pyramid, such as a ConvNeXt, or other out_features: strides are {STRIDES}",
        )
    return {feature: last_of_stride[STRIDES[feature]] for feature in out_features}
