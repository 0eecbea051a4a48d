"""Which parameters get which learning rate and weight decay."""

from torch import nn


class ParameterGroups:
    """Groups for an optimizer, made from a model.

    Args:
        weight_decay_norm: weight decay of normalisation layers; None for the optimizer's own.
        weight_decay_bias: weight decay of all other biases; None likewise.
        backbone_lr_factor: the learning rate of parameters under `backbone.` relative to the others'.
    """

    def __init__(
        self,
        weight_decay_norm: float | None = 0.0,
        weight_decay_bias: float | None = 0.0,
        backbone_lr_factor: float = 1.0,
    ):
        self.weight_decay_norm = weight_decay_norm
        self.weight_decay_bias = weight_decay_bias
        self.backbone_lr_factor = backbone_lr_factor

    def __call__(self, model: nn.Module, lr: float, weight_decay: float) -> list[dict]:
        """Groups of the trainable parameters, each with `params`, `lr` and `weight_decay`; a parameter is in one."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        seen: set[nn.Parameter] = set()
        for module_name, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and parameter not in seen:
                    seen.add(parameter)
                    key = (self._lr(module_name, lr), self._weight_decay(module, name, weight_decay))
                    groups.setdefault(key, []).append(parameter)
        return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]

    def _lr(self, module_name: str, lr: float) -> float:
        in_backbone = f"{module_name}.".startswith("backbone.")
        return lr * self.backbone_lr_factor if in_backbone else lr

    def _weight_decay(self, module: nn.Module, name: str, weight_decay: float) -> float:
        if isinstance(module, NORM_LAYERS):
            special = self.weight_decay_norm
        else:
            special = self.weight_decay_bias if name == "bias" else None
        return weight_decay if special is None else special


NORM_LAYERS = (
    nn.modules.batchnorm._NormBase,  # batch norm of all kinds, and instance norm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
