"""Which parameters get which learning rate and weight decay."""

import math
from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from xray_lazy.errors import UserError
from xray_lazy.modeling.name_patterns import check_patterns, matches, part_name


class ParameterGroups:
    """Groups for an optimizer, made from a model.

    Patterns are those of `name_patterns.matches`; where several of a mapping mean a parameter, the last one counts.

    Args:
        weight_decay_norm: weight decay of normalisation layers; None for the optimizer's own.
        weight_decay_bias: weight decay of all other biases; None for the optimizer's own.
        lr_factors: from pattern to learning rate relative to the optimizer's: `{"backbone": 0.1}`.
        weight_decays: from pattern to weight decay, whatever the kind of parameter.
        layer_decay: each of `layers` learns so much slower than the next one, and the last one than the rest of the
            model (Clark et al., "ELECTRA", ICLR 2020); 1 switches it off. It is multiplied with `lr_factors`.
        layers: patterns of the model's layers in their order, that at the image first.
    """

    def __init__(
        self,
        weight_decay_norm: float | None = 0.0,
        weight_decay_bias: float | None = 0.0,
        lr_factors: Mapping[str, float] | None = None,
        weight_decays: Mapping[str, float] | None = None,
        layer_decay: float = 1.0,
        layers: Sequence[str] = (),
    ):
        self.weight_decay_norm = weight_decay_norm
        self.weight_decay_bias = weight_decay_bias
        self.lr_factors = dict(lr_factors or {})
        self.weight_decays = dict(weight_decays or {})
        if layer_decay != 1 and not layers:
            raise UserError("optimizer.params has a layer_decay, but no layers", "list them in optimizer.params.layers")
        decayed = [] if layer_decay == 1 else layers
        self.layer_factors = {layer: layer_decay ** (len(layers) - depth) for depth, layer in enumerate(decayed)}

    def __call__(self, model: nn.Module, lr: float, weight_decay: float) -> list[dict]:
        """Groups of the trainable parameters; a parameter is in one.

        Each has `params`, `lr`, `weight_decay` and `name`: of the part that has a learning rate of its own, "" for the
        optimizer's.

        Raises:
            UserError: a pattern means no parameter of the model.
        """
        self._check(model)
        groups: dict[tuple, list[nn.Parameter]] = {}
        for full_name, module, parameter in _trained_parameters(model):
            part, factor = self._lr_factor(full_name)
            decay = self._weight_decay(module, full_name, weight_decay)
            groups.setdefault((part, lr * factor, decay), []).append(parameter)
        return [
            {"params": params, "lr": rate, "weight_decay": decay, "name": part}
            for (part, rate, decay), params in groups.items()
        ]

    def _check(self, model: nn.Module) -> None:
        check_patterns(self.lr_factors, model, "optimizer.params.lr_factors")
        check_patterns(self.weight_decays, model, "optimizer.params.weight_decays")
        check_patterns(self.layer_factors, model, "optimizer.params.layers")

    def _lr_factor(self, name: str) -> tuple[str, float]:
        """The name of the part that a parameter is in, and the part's factor."""
        found = [(p, of[p]) for of in (self.layer_factors, self.lr_factors) if (p := _last_match(of, name)) is not None]
        return "+".join(part_name(pattern) for pattern, _ in found), math.prod(factor for _, factor in found)

    def _weight_decay(self, module: nn.Module, name: str, weight_decay: float) -> float:
        pattern = _last_match(self.weight_decays, name)
        if pattern is not None:
            return self.weight_decays[pattern]
        if isinstance(module, NORM_LAYERS):
            special = self.weight_decay_norm
        else:
            special = self.weight_decay_bias if name.rpartition(".")[2] == "bias" else None
        return weight_decay if special is None else special


def _trained_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Each trained parameter once, with its full name and the layer that holds it."""
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(module_name, recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield name, module, parameter


def _last_match(patterns: dict[str, float], name: str) -> str | None:
    return next((pattern for pattern in reversed(patterns) if matches(pattern, name)), None)


NORM_LAYERS = (
    nn.modules.batchnorm._NormBase,  # batch norm of all kinds, and instance norm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
