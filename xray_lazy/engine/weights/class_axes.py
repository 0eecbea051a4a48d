"""Which dimensions of a model's weights belong to its classes: those that grow by one with each class."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from xray_lazy.config.keys import parts_of
from xray_lazy.engine.weights.weightless import build_weightless


@dataclass(frozen=True)
class ClassAxis:
    """A dimension with `per_class` places for each class, and `others` that are for none of them.

    In outputs (`is_output`) the classes come first, then the background. In inputs they come last: detectron2's
    PointRend has a coarse mask of each class behind the features.
    """

    per_class: int
    others: int
    is_output: bool

    def number_of_classes(self, size: int) -> int | None:
        """How many classes a dimension of this size is for; None where it can't be of this kind."""
        number, rest = divmod(size - self.others, self.per_class)
        return number if number > 0 and not rest else None

    def sources(self, classes: torch.Tensor, number_there: int) -> torch.Tensor:
        """For each place of the model's dimension where it is in that of a checkpoint, -1 for nowhere.

        Args:
            classes: (K,) for each class of the model that of the checkpoint, or -1.
            number_there: of classes of the checkpoint.
        """
        there = classes[:, None] * self.per_class + torch.arange(self.per_class)
        there = there.where(classes[:, None] >= 0, -1).flatten()
        others = torch.arange(self.others)
        if self.is_output:
            return torch.cat([there, others + number_there * self.per_class])
        return torch.cat([others, (there + self.others).where(there >= 0, -1)])


def class_axes(cfg: DictConfig, model: nn.Module) -> dict[str, dict[int, ClassAxis]]:
    """The class dimensions of each weight that has some, by its name and their numbers.

    Args:
        cfg: with the node `model` that `model` was built from. One that doesn't say its number of classes has none.
    """
    keys = list(number_of_classes_keys(cfg.model, "model"))
    numbers = {OmegaConf.select(cfg, key) for key in keys}
    if len(numbers) != 1:
        return {}
    number = numbers.pop()
    larger = copy.deepcopy(cfg)
    for key in keys:
        OmegaConf.update(larger, key, number + 1)
    shapes = {name: value.shape for name, value in build_weightless(larger.model).state_dict().items()}
    axes = {name: dict(_axes(value.shape, shapes.get(name, ()), number)) for name, value in model.state_dict().items()}
    return {name: of_weight for name, of_weight in axes.items() if of_weight}


def number_of_classes_keys(node: DictConfig, prefix: str) -> Iterator[str]:
    """Where a model states its number of classes itself; interpolations follow these."""
    for key in parts_of(node):
        if OmegaConf.is_interpolation(node, key):
            continue
        if key == "num_classes" and isinstance(node[key], int):
            yield f"{prefix}.{key}"
        elif isinstance(node[key], DictConfig):
            yield from number_of_classes_keys(node[key], f"{prefix}.{key}")


def _axes(shape: torch.Size, larger: torch.Size, number_of_classes: int) -> Iterator[tuple[int, ClassAxis]]:
    if len(shape) != len(larger):
        return
    for dimension, (size, larger_size) in enumerate(zip(shape, larger, strict=True)):
        if per_class := larger_size - size:
            others = size - per_class * number_of_classes
            yield dimension, ClassAxis(per_class, others, is_output=dimension == 0)
