"""The parameters of a sweep: W&B's distributions, what Optuna samples for them, and the values these mean.

Bounded distributions are Optuna's own. The others are sampled as a quantile, which is uniform and so has a shape that
its samplers can learn on, and mapped by the inverse of their cumulative distribution.
"""

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xray_lazy.config.faults import Fault
from xray_lazy.config.override_text import value_text
from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.utils.wording import counted

if TYPE_CHECKING:
    from optuna.trial import Trial

BOUNDED = ("uniform", "log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values")
UNBOUNDED = {"normal": ("mu", "sigma"), "log_normal": ("mu", "sigma"), "beta": ("a", "b")}
QUANTIZED = ("uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta")
DEFAULTS = {"mu": 0.0, "sigma": 1.0, "a": 1.0, "b": 1.0, "q": 1}
# The tails that are left out: a normal distribution ends at 3.7 standard deviations, not at infinity.
TAIL = 1e-4


def _settings_of_distributions() -> dict[str, tuple[str, ...]]:
    settings = {"constant": ("value",), "categorical": ("values", "probabilities"), "int_uniform": ("min", "max")}
    settings |= dict.fromkeys(BOUNDED, ("min", "max")) | UNBOUNDED
    return settings | {f"q_{name}": (*settings[name], "q") for name in QUANTIZED}


SETTINGS = _settings_of_distributions()
# another name of W&B's
ALIASES = {"categorical_w_probabilities": "categorical"}


@dataclass(frozen=True)
class Parameter:
    """A config key that a sweep sets.

    Attributes:
        key: dotted, of the config.
        distribution: W&B's name of it.
        settings: the others of W&B's keys, such as min and max, with their defaults.
    """

    key: str
    distribution: str
    settings: Mapping[str, Any]

    @property
    def is_constant(self) -> bool:
        return self.distribution == "constant" or (self.values is not None and len(self.values) == 1)

    @property
    def is_log(self) -> bool:
        """Whether it spreads over magnitudes."""
        return "log" in self.distribution

    @property
    def values(self) -> tuple | None:
        """All values, where they were listed."""
        if self.distribution == "constant":
            return (self.settings["value"],)
        return tuple(self.settings["values"]) if self.distribution == "categorical" else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest value before they are quantized; None where the distribution has none."""
        if self.values is not None or self._base in UNBOUNDED:
            return None
        low, high = self.settings["min"], self.settings["max"]
        if self._base == "log_uniform":
            return math.exp(low), math.exp(high)
        if self._base == "inv_log_uniform":  # log(1 / x) is between min and max
            return math.exp(-high), math.exp(-low)
        return low, high

    def at(self, quantile: float) -> Any:
        """The value below which lies the share `quantile`, 0 to 1, of the distribution."""
        if self.values is not None:
            return self._listed_at(quantile)
        if self.bounds is None:
            return self._quantized(self._inverse(min(max(quantile, TAIL), 1 - TAIL)))
        low, high = self.bounds
        if self.distribution == "int_uniform":
            return low + min(int(quantile * (high - low + 1)), high - low)
        if self.is_log:
            return self._quantized(low * (high / low) ** quantile)
        return self._quantized(low + quantile * (high - low))

    def suggest(self, trial: "Trial", grid: bool = False) -> Any:
        """The value that Optuna chooses for a trial, or has chosen before; with `grid` it chooses from `grid()`."""
        values = self.grid() if grid else self.values
        if values is not None and (grid or not self.settings.get("probabilities")):
            by_text = {value_text(value): value for value in values}
            return by_text[trial.suggest_categorical(self.key, list(by_text))]
        if values is not None:
            return self._listed_at(trial.suggest_float(self.key, TAIL, 1 - TAIL))
        if self.distribution == "int_uniform":
            return trial.suggest_int(self.key, *self.bounds)
        if self.bounds is None:
            return self._quantized(self._inverse(trial.suggest_float(self.key, TAIL, 1 - TAIL)))
        return self._quantized(trial.suggest_float(self.key, *self.bounds, log=self.is_log))

    def grid(self) -> list | None:
        """All values in order; None where there is no end of them."""
        if self.values is not None:
            return list(self.values)
        low, high = self.bounds or (0, 0)
        if self.distribution == "int_uniform":
            return list(range(low, high + 1))
        if self.distribution == "q_uniform":
            q = self.settings["q"]
            return [self._quantized(number * q) for number in range(round(low / q), round(high / q) + 1)]
        return None

    def __str__(self) -> str:
        if self.values is not None:
            shares = self.settings.get("probabilities")
            return ", ".join(map(value_text, self.values)) + (f" with probabilities {list(shares)}" if shares else "")
        q = f" in steps of {self.settings['q']}" if "q" in self.settings else ""
        if self.bounds is not None:
            low, high = self.bounds
            return f"{low:.6g} to {high:.6g}{q}, {self.distribution}"
        names = ", ".join(f"{name} {self.settings[name]:g}" for name in UNBOUNDED[self._base])
        return f"{names}{q}, {self.distribution}"

    @property
    def _base(self) -> str:
        return self.distribution.removeprefix("q_")

    def _listed_at(self, quantile: float) -> Any:
        values = self.values
        shares = self.settings.get("probabilities") or [1 / len(values)] * len(values)
        index = bisect.bisect_right(list(itertools.accumulate(shares)), quantile)
        # a value without probability may be the last one
        return values[min(index, max(i for i, share in enumerate(shares) if share))]

    def _inverse(self, quantile: float) -> float:
        from scipy import stats

        settings = self.settings
        if self._base == "beta":
            return float(stats.beta.ppf(quantile, settings["a"], settings["b"]))
        normal = float(stats.norm.ppf(quantile, settings["mu"], settings["sigma"]))
        return math.exp(normal) if self._base == "log_normal" else normal

    def _quantized(self, value: float) -> float:
        if "q" not in self.settings:
            return value
        q = self.settings["q"]
        # as many digits as survive the multiplication: 3 * 0.1 is meant to be 0.3
        rounded = float(f"{round(value / q) * q:.12g}")
        return int(rounded) if float(q).is_integer() else rounded


def read_parameters(tree: Any, method: str, prefix: str = "") -> tuple[dict[str, Parameter], list[Fault]]:
    """The parameters by config key, and what is wrong with the others.

    Args:
        tree: of the sweep file's `parameters`; nested groups are joined by dots.
        method: the sweep's; a grid wants values that can be counted.
        prefix: of the keys.
    """
    place = f"parameters.{prefix}".rstrip(".")
    if not isinstance(tree, dict) or not tree:
        return {}, [Fault(place, "it holds no parameters", "name config keys: optimizer.lr: {min: 0.0, max: 0.001}")]
    parameters, faults = {}, []
    for name, content in tree.items():
        key = f"{prefix}{name}"
        if isinstance(content, dict) and set(content) == {"parameters"}:
            inner, wrong = read_parameters(content["parameters"], method, f"{key}.")
        else:
            parameter, wrong = _read_parameter(key, content, method)
            inner = {key: parameter} if parameter else {}
        for twice in inner.keys() & parameters.keys():
            wrong.append(Fault(f"parameters.{twice}", "it is given twice", "leave one out"))
        parameters |= inner
        faults += wrong
    return parameters, faults


def _read_parameter(key: str, content: Any, method: str) -> tuple[Parameter | None, list[Fault]]:
    place = f"parameters.{key}"
    if not isinstance(content, dict):
        return None, [Fault(place, f"{content!r} is no parameter", f"a fixed value is written {{value: {content}}}")]
    name = content.get("distribution", _implied_distribution(content))
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    if name is None:
        message = f"nothing says which values it takes: {', '.join(map(str, content)) or 'it is empty'}"
        return None, [Fault(place, message, "give value, values, min and max, or a distribution")]
    if not isinstance(name, str) or name not in SETTINGS:
        fix = did_you_mean(nearest(str(name), SETTINGS)) or f"there are {', '.join(SETTINGS)}"
        return None, [Fault(place, f"there is no distribution {name}", fix)]
    given = {setting: value for setting, value in content.items() if setting != "distribution"}
    faults = [Fault(place, message, fix) for message, fix in _setting_faults(name, given)]
    if faults:
        return None, faults
    defaults = {setting: DEFAULTS[setting] for setting in SETTINGS[name] if setting in DEFAULTS}
    parameter = Parameter(key, name, {**defaults, **given})
    if method == "grid" and parameter.grid() is None:
        return None, [
            Fault(place, f"a grid has no end with {name}", "list its values, or use q_uniform or int_uniform")
        ]
    return parameter, []


def _implied_distribution(content: dict) -> str | None:
    """W&B's rules for parameters that name none."""
    if "value" in content:
        return "constant"
    if "values" in content:
        return "categorical"
    if "min" in content and "max" in content:
        return "int_uniform" if type(content["min"]) is type(content["max"]) is int else "uniform"
    return None


def _setting_faults(name: str, given: dict) -> Iterator[tuple[str, str]]:
    """What is wrong with a distribution's settings: (message, fix)."""
    known = SETTINGS[name]
    unknown = [str(setting) for setting in given if setting not in known]
    missing = [setting for setting in known if setting not in (*given, *DEFAULTS, "probabilities")]
    for setting in unknown:
        yield f"{name} has no setting {setting}", did_you_mean(nearest(setting, known)) or f"it has {', '.join(known)}"
    for setting in missing:
        yield f"{name} needs {setting}", f"add {setting}: ..."
    numbers = {
        setting: value for setting, value in given.items() if setting not in ("value", "values", "probabilities")
    }
    wrong = [setting for setting, value in numbers.items() if not is_number(value)]
    for setting in wrong:
        yield f"{setting} is {numbers[setting]!r}, not a number", f"write a number: {setting}: 0.1"
    if unknown or missing or wrong:
        return
    if name == "categorical":
        yield from _list_faults(given["values"], given.get("probabilities"))
    elif name != "constant":
        yield from _number_faults(name, numbers)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; flags are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _list_faults(values: Any, probabilities: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(values, list) or not values:
        yield f"values is {values!r}, not a list of values", "write values: [2, 4, 8]"
        return
    texts = list(map(value_text, values))
    twice = sorted({text for text in texts if texts.count(text) > 1})
    if twice:
        yield f"values has {', '.join(twice)} twice", "give each once; probabilities weigh them"
    if probabilities is None:
        return
    if not isinstance(probabilities, list) or not all(is_number(p) and p >= 0 for p in probabilities):
        yield "probabilities is not a list of numbers of 0 or more", "write probabilities: [0.5, 0.25, 0.25]"
    elif len(probabilities) != len(values):
        shares = counted(len(probabilities), "probability", "probabilities")
        yield f"{counted(len(values), 'value')} and {shares} are given", "give one for each value"
    elif not math.isclose(sum(probabilities), 1, abs_tol=1e-6):
        yield f"the probabilities sum up to {sum(probabilities):g}", "make them sum up to 1"


def _number_faults(name: str, numbers: dict[str, float]) -> Iterator[tuple[str, str]]:
    for setting in ("sigma", "a", "b", "q"):
        if numbers.get(setting, 1) <= 0:
            yield f"{setting} is {numbers[setting]}", f"{setting} must be above 0"
    if name.endswith("log_normal") and abs(numbers.get("mu", 0)) + 4 * numbers.get("sigma", 1) > 700:
        message = f"{name} takes mu and sigma of the logarithm, and e^{numbers.get('mu', 0)} is out of reach"
        yield message, "write the logarithm: mu: 6.9 has its middle at 1000"
    if "min" not in numbers:
        return
    low, high = numbers["min"], numbers["max"]
    if name == "int_uniform" and not (type(low) is type(high) is int):
        yield f"int_uniform from {low} to {high} has bounds that are not whole", "write whole numbers, or use uniform"
    if low >= high:
        yield f"min {low} is not below max {high}", "exchange them, or give a fixed value"
    elif name == "q_uniform" and (q := numbers.get("q", DEFAULTS["q"])) > high - low:
        yield f"a step of {q} is wider than {low} to {high}", "give a smaller q, or list the values"
    elif name == "q_log_uniform_values" and (q := numbers.get("q", DEFAULTS["q"])) > 2 * high:
        yield f"a step of {q} rounds all of {low} to {high} to 0", "give a smaller q, or list the values"
    elif name.endswith("log_uniform_values") and low <= 0:
        yield f"min is {low}, which has no logarithm", "give a min above 0, such as 1e-6"
    elif name.endswith("log_uniform") and max(abs(low), abs(high)) > 700:
        yield f"{name} takes exponents of e, and e^{max(low, high, key=abs)} is out of reach", f"use {name}_values"
