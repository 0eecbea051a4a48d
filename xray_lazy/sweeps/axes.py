"""A parameter of a sweep as the axis of a figure: its short name, its scale, and the place of each value on it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from xray_lazy.config.override_text import value_text
from xray_lazy.sweeps.search_space import Parameter
from xray_lazy.sweeps.trials import Trial


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        key: of the config.
        name: the shortest end of the key that no other parameter of the sweep has.
        span: lowest and highest place.
        is_log: numbers are drawn by their decimal logarithm.
        categories: all values as text, in their order, where they aren't drawn as numbers; else None.
    """

    key: str
    name: str
    span: tuple[float, float]
    is_log: bool = False
    categories: tuple[str, ...] | None = None

    def place(self, value: Any) -> float:
        """The place of a value: a number, its logarithm, or the number of its category."""
        if self.categories is not None:
            return float(self.categories.index(value_text(value)))
        return math.log10(value) if self.is_log else float(value)

    def ticks(self) -> dict[str, list] | None:
        """plotly's `tickvals` and `ticktext`; None where it finds good ones itself."""
        if self.categories is not None:
            return {"tickvals": list(range(len(self.categories))), "ticktext": list(self.categories)}
        if not self.is_log:
            return None
        low, high = self.span
        steps = (1, 2, 5) if high - low < 2 else (1,)
        numbers = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
        inside = [number for number in numbers if low - 1e-9 <= math.log10(number) <= high + 1e-9]
        return {"tickvals": [math.log10(number) for number in inside], "ticktext": [f"{n:g}" for n in inside]}


def axes_of(parameters: dict[str, Parameter], trials: Sequence[Trial]) -> list[Axis]:
    """The axes of the parameters, in their order.

    Args:
        parameters: those that vary.
        trials: at least one; each has all parameters.
    """
    names = short_names(parameters)
    return [_axis(parameter, names[key], [t.parameters[key] for t in trials]) for key, parameter in parameters.items()]


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """By key, its shortest end that no other key has: `lr` for `optimizer.lr`."""
    keys = list(keys)
    return {key: next(end for end in _ends(key) if not _ends_another(end, key, keys)) for key in keys}


def _axis(parameter: Parameter, name: str, values: list[Any]) -> Axis:
    if parameter.values is not None:
        categories = tuple(map(value_text, parameter.values))
        return Axis(parameter.key, name, (0.0, len(categories) - 1.0), categories=categories)
    low, high = parameter.bounds or (min(values), max(values))
    low, high = min(low, *values), max(high, *values)  # what is quantized can lie beyond the bounds
    is_log = parameter.is_log and low > 0
    return Axis(parameter.key, name, (math.log10(low), math.log10(high)) if is_log else (low, high), is_log)


def _ends(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[start:]) for start in reversed(range(len(parts)))]


def _ends_another(end: str, key: str, keys: Sequence[str]) -> bool:
    return end != key and any(f".{other}".endswith(f".{end}") for other in keys if other != key)
