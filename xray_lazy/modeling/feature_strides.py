"""Whether poolers and anchors are made for the strides of the feature maps that they get: no shape tells it."""

from collections.abc import Iterator
from typing import Any

from detectron2.modeling.anchor_generator import DefaultAnchorGenerator, RotatedAnchorGenerator
from detectron2.modeling.poolers import ROIPooler
from torch import nn

from xray_lazy.errors import UserError

TOLERANCE = 1e-3  # a scale may be rounded


def check_strides(model: nn.Module) -> None:
    """Compare each pooler's scales and each anchor generator's strides with those of the backbone's feature maps.

    Models are looked at whose `backbone` has an `output_shape`, and parts whose owner, or an owner further up, names
    the feature maps as detectron2's do (`in_features`, `box_in_features` for `box_pooler`).

    Raises:
        UserError: a part is for other strides, for another number of maps, or for maps that the backbone doesn't give.
    """
    shapes = getattr(getattr(model, "backbone", None), "output_shape", dict)()
    strides = {name: shape.stride for name, shape in shapes.items() if shape.stride}
    for name, argument, own in _parts(model) if strides else ():
        features = _features_of(model, name)
        missing = [feature for feature in features or () if feature not in strides]
        if missing:
            raise UserError(
                f"model.{name} gets the feature maps {_listed(features)}, but the backbone has no {_listed(missing)}",
                f"it has {_listed(strides)}",
            )
        due = [strides[feature] for feature in features or ()]
        if features and (
            len(due) != len(own) or any(abs(a / b - 1) > TOLERANCE for a, b in zip(own, due, strict=True))
        ):
            numbers = [1 / stride for stride in due] if argument == "scales" else due
            raise UserError(
                f"model.{name} is for feature maps with the strides {_listed(own)}, but gets {_listed(features)} "
                f"with {_listed(due)}",
                f"'model.{name}.{argument}=[{','.join(f'{number:.10g}' for number in numbers)}]', or other in_features",
            )


def _parts(model: nn.Module) -> Iterator[tuple[str, str, list[float]]]:
    """Names of the parts, the argument that tells them strides, and these strides."""
    for name, module in model.named_modules():
        if isinstance(module, ROIPooler):
            yield name, "scales", [1 / level.spatial_scale for level in module.level_poolers]
        elif isinstance(module, (DefaultAnchorGenerator, RotatedAnchorGenerator)):
            yield name, "strides", list(module.strides)


def _features_of(model: nn.Module, name: str) -> list[str] | None:
    """Names of the feature maps that a part gets; None where its owners don't say."""
    *owners, part = name.split(".")
    words = (f"{part.removesuffix('_pooler')}_in_features", "in_features", "head_in_features")
    for depth in range(len(owners), -1, -1):
        owner = model.get_submodule(".".join(owners[:depth]))
        features = next((value for value in (getattr(owner, word, None) for word in words) if value), None)
        if features:
            return list(features)
    return None


def _listed(values: Any) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
