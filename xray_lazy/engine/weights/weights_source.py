"""Weights of other projects: their names as detectron2's, and how a model must prepare images for them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from xray_lazy.errors import UserError

# First parts of the names of detectron2's models; what precedes them comes from a wrapper around the model.
_BEGINNINGS = re.compile(r"^(.*?)(?:backbone\.|bottom_up\.|stem\.|conv1\.weight$|layer1\.0\.)")

# Statistics of one's own images differ less than those of Caffe and torchvision, which are 57 times as large.
SCALE = 5.0


@dataclass(frozen=True)
class Expected:
    """How the images of weights were prepared, and where their backbone has its strides.

    Attributes:
        source: who trained the weights.
        input_format: "RGB" or "BGR".
        pixel_mean, pixel_std: in that order.
        stride_in_1x1: whether the first convolution of a bottleneck has the stride, or the second; None if unknown.
    """

    source: str
    input_format: str
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    stride_in_1x1: bool | None

    @classmethod
    def torch_like(cls, source: str) -> "Expected":
        """As torchvision's models were trained, and those that begin from them."""
        return cls(source, "RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False)

    @classmethod
    def caffe_like(cls, source: str) -> "Expected":
        """As Caffe's ResNets were trained, and those that begin from them."""
        return cls(source, "BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), True)

    def check(self, model: nn.Module) -> None:
        """Raises UserError where `model` gives its backbone other images, or other strides; statistics may be one's
        own, but those of the other library are not."""
        settings = list(self._other_settings(model))
        if settings:
            raise UserError(
                f"the weights are {self.source}'s, which were trained with images prepared in another way, or other "
                f"strides, than this model's: {self.input_format}, pixel_std {_as_list(self.pixel_std)}",
                f"set {' '.join(settings)} (where the config has these keys), or take other weights",
            )

    def _other_settings(self, model: nn.Module) -> Iterator[str]:
        """Overrides that let the model fit."""
        order = getattr(model, "input_format", None)
        if order in ("RGB", "BGR") and order != self.input_format:
            yield f"model.input_format={self.input_format}"
        mean, std = (_channels(getattr(model, name, None)) for name in ("pixel_mean", "pixel_std"))
        if mean and std:
            is_swapped = all(abs(a - b) < 1 for a, b in zip(mean, reversed(self.pixel_mean), strict=True))
            is_scaled = any(not 1 / SCALE < a / b < SCALE for a, b in zip(std, self.pixel_std, strict=True))
            if is_swapped or is_scaled:
                yield f"model.pixel_mean={_as_list(self.pixel_mean)} model.pixel_std={_as_list(self.pixel_std)}"
        blocks: list[Any] = [module for module in model.modules() if isinstance(module, BottleneckBlock)]
        strides = [block.conv1.stride for block in blocks if block.stride > 1]
        if strides and self.stride_in_1x1 is not None and (strides[0][0] > 1) != self.stride_in_1x1:
            yield f"model.backbone.bottom_up.stages.stride_in_1x1={self.stride_in_1x1}"


def bare_names(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Names without what wrappers put before them: `module.`, `_orig_mod.`, or a LightningModule's attribute."""
    prefixes = [match[1] for match in map(_BEGINNINGS.match, weights) if match]
    prefix = max(set(prefixes), key=prefixes.count) if prefixes else ""
    return {name.removeprefix(prefix): value for name, value in weights.items()}


def torchvision_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The weights of torchvision's ResNets and of its R-CNNs' backbone and FPN; None for others."""
    is_resnet = "conv1.weight" in weights and "layer1.0.conv1.weight" in weights
    is_rcnn = "backbone.body.conv1.weight" in weights
    if not (is_resnet or is_rcnn):
        return None

    def new_name(name: str) -> str | None:
        if is_resnet or ".body." in name:
            return _resnet_name(name.removeprefix("backbone.body."))
        return _torchvision_fpn_name(name)

    return _renamed(weights, new_name)


def mmdetection_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The weights of MMDetection's (2 and 3) ResNets, FPN, and the heads of Faster and Mask R-CNN; None for others.

    Its heads count classes, anchors and box deltas as detectron2's do. Parts that detectron2 has not keep their names.
    """
    if "backbone.conv1.weight" not in weights or "backbone.layer1.0.conv1.weight" not in weights:
        return None

    def new_name(name: str) -> str | None:
        if name.startswith("backbone."):
            return _resnet_name(name.removeprefix("backbone."))
        return _mmdetection_head_name(name)

    return _renamed(weights, new_name)


def _renamed(weights: Mapping[str, torch.Tensor], new_name: Callable[[str], str | None]) -> dict[str, torch.Tensor]:
    """Weights by detectron2's names, without those that it has not."""
    names = ((new_name(name), value) for name, value in weights.items())
    return {name: value for name, value in names if name and not name.endswith("num_batches_tracked")}


def mmdetection_expects(meta: Any) -> Expected | None:
    """What the config that MMDetection keeps in a checkpoint says of its images."""
    text = re.sub(r"[\s\"']", "", str(meta.get("cfg", ""))) if isinstance(meta, Mapping) else ""
    if "style=caffe" in text or "style:caffe" in text:
        return Expected.caffe_like("MMDetection")
    is_torchs = "style=pytorch" in text or "style:pytorch" in text
    return Expected.torch_like("MMDetection") if is_torchs else None


def mmdetection_classes(meta: Any) -> tuple[str, ...]:
    """The class names that MMDetection 2 and 3 keep in a checkpoint; none where there are none."""
    meta = meta if isinstance(meta, Mapping) else {}
    facts = {**meta, **(meta.get("dataset_meta") or {})}
    names = facts.get("classes") or facts.get("CLASSES") or ()
    return tuple(names) if isinstance(names, list | tuple) else ()


def _resnet_name(name: str) -> str | None:
    """A name inside torchvision's ResNet."""
    if name.startswith("fc."):
        return None
    name = re.sub(r"^(conv1|bn1)\b", r"stem.\1", name)
    name = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    name = re.sub(r"\bbn(\d)", r"conv\1.norm", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return f"backbone.bottom_up.{name}"


def _torchvision_fpn_name(name: str) -> str | None:
    """A name outside the body of torchvision's R-CNNs; their heads count classes and anchors in another way."""
    match = re.match(r"backbone\.fpn\.(inner|layer)_blocks\.(\d)(?:\.0)?\.(weight|bias)$", name)
    if not match:
        return None
    part = "lateral" if match[1] == "inner" else "output"
    return f"backbone.fpn_{part}{int(match[2]) + 2}.{match[3]}"


_MMDETECTION_HEADS = (
    (r"rpn_head\.rpn_conv\.", "proposal_generator.rpn_head.conv."),
    (r"rpn_head\.rpn_cls\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"rpn_head\.rpn_reg\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
    (r"roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
    (r"roi_head\.mask_head\.upsample\.", "roi_heads.mask_head.deconv."),
    (r"roi_head\.mask_head\.conv_logits\.", "roi_heads.mask_head.predictor."),
)
# with a number, and what is added to it
_MMDETECTION_LAYERS = (
    (r"neck\.lateral_convs\.(\d+)\.conv\.", "backbone.fpn_lateral{}.", 2),
    (r"neck\.fpn_convs\.(\d+)\.conv\.", "backbone.fpn_output{}.", 2),
    (r"roi_head\.bbox_head\.shared_fcs\.(\d+)\.", "roi_heads.box_head.fc{}.", 1),
    (r"roi_head\.mask_head\.convs\.(\d+)\.conv\.", "roi_heads.mask_head.mask_fcn{}.", 1),
)


def _mmdetection_head_name(name: str) -> str:
    for pattern, new in _MMDETECTION_HEADS:
        if match := re.match(pattern, name):
            return new + name[match.end() :]
    for pattern, new, added in _MMDETECTION_LAYERS:
        if match := re.match(pattern, name):
            return new.format(int(match[1]) + added) + name[match.end() :]
    return name


def _channels(values: Any) -> list[float] | None:
    """Three numbers of a model's buffer or list; None where they are others, or have no values."""
    if not isinstance(values, torch.Tensor) or values.is_meta:
        return None
    numbers = values.flatten().tolist()
    return numbers if len(numbers) == 3 and all(numbers) else None


def _as_list(values: Sequence[float]) -> str:
    return str(list(values)).replace(" ", "")
