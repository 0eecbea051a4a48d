"""Distributions: their values, their quantiles, and how values are written as overrides."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy import stats

from xray_lazy.config import apply_overrides
from xray_lazy.config.override_text import override, value_text
from xray_lazy.sweeps.search_space import SETTINGS, Parameter, read_parameters


def parameter(method="random", **content):
    parameters, faults = read_parameters({"key": content}, method)
    assert not faults
    return parameters["key"]


def fault(method="random", **content):
    _, faults = read_parameters({"key": content}, method)
    return "\n".join(f"{one}: {one.fix}" for one in faults)


def samples(one, count=2000):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [one.suggest(study.ask()) for _ in range(count)]


# what the values of each distribution are distributed like, as W&B documents it
CONTINUOUS = {
    "uniform": ({"min": -2, "max": 3}, stats.uniform(-2, 5)),
    "log_uniform": ({"min": -3, "max": 2}, stats.loguniform(math.exp(-3), math.exp(2))),
    "log_uniform_values": ({"min": 1e-4, "max": 10}, stats.loguniform(1e-4, 10)),
    "inv_log_uniform": ({"min": -3, "max": 2}, stats.loguniform(math.exp(-2), math.exp(3))),
    "inv_log_uniform_values": ({"min": 1e-4, "max": 10}, stats.loguniform(1e-4, 10)),
    "normal": ({"mu": 2, "sigma": 3}, stats.norm(2, 3)),
    "log_normal": ({"mu": 1, "sigma": 0.5}, stats.lognorm(0.5, scale=math.e)),
    "beta": ({"a": 2, "b": 5}, stats.beta(2, 5)),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_values_are_distributed_as_documented(name):
    content, expected = CONTINUOUS[name]
    one = parameter(distribution=name, **content)
    assert stats.kstest(samples(one), expected.cdf).pvalue > 1e-3
    assert one.at(0.3) == pytest.approx(expected.ppf(0.3))


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if f"q_{name}" in SETTINGS])
def test_quantized_values_are_whole_multiples_of_q(name):
    content, expected = CONTINUOUS[name]
    values = samples(parameter(distribution=f"q_{name}", q=0.1, **content))
    assert all(value == pytest.approx(round(value * 10) / 10, abs=1e-12) for value in values)
    assert all(len(str(value)) < 20 for value in values), "3 * 0.1 is 0.3"
    for quantile in (0.2, 0.5, 0.9):
        nearest = round(float(expected.ppf(quantile)) * 10) / 10
        assert parameter(distribution=f"q_{name}", q=0.1, **content).at(quantile) == pytest.approx(nearest)
    assert all(type(value) is int for value in samples(parameter(distribution=f"q_{name}", **content), 20))


def test_every_distribution_was_looked_at():
    others = {"constant", "categorical", "int_uniform"}
    assert set(SETTINGS) == {*CONTINUOUS, *others, *(name for name in SETTINGS if name.startswith("q_"))}


def test_whole_bounds_give_whole_numbers_as_with_wandb():
    assert parameter(min=1, max=3).distribution == "int_uniform"
    assert set(samples(parameter(min=1, max=3), 100)) == {1, 2, 3}
    assert parameter(min=0, max=0.001).distribution == "uniform"
    assert [parameter(min=1, max=3).at(quantile) for quantile in (0, 0.5, 1)] == [1, 2, 3]


def test_listed_values_come_with_their_probabilities():
    one = parameter(values=["a", None, [1, 2]], probabilities=[0.6, 0.4, 0.0])
    values = samples(one)
    assert values.count("a") == pytest.approx(1200, abs=100)
    assert values.count(None) == 2000 - values.count("a")
    assert one.at(1) is None


def test_values_of_any_kind_are_told_apart():
    values = [1, 1.5, "1", True, None, "null", [1, 2], {"a": 1}]
    drawn = samples(parameter(values=values), 200)
    assert {repr(value) for value in drawn} == set(map(repr, values))


def test_a_grid_has_all_values_in_order():
    assert parameter("grid", values=[4, 2]).grid() == [4, 2]
    assert parameter("grid", min=1, max=4).grid() == [1, 2, 3, 4]
    assert parameter("grid", distribution="q_uniform", min=0.1, max=0.5, q=0.2).grid() == [0.0, 0.2, 0.4]
    assert "a grid has no end with uniform" in fault("grid", min=0.0, max=1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "nothing says which values it takes"),
        ({"min": 1}, "nothing says which values it takes"),
        ({"mu": 1, "sigma": 2}, "give value, values, min and max, or a distribution"),
        ({"min": 2, "max": 1}, "min 2 is not below max 1"),
        ({"min": "1e-3x", "max": 1}, "'1e-3x', not a number"),
        ({"min": 0, "max": math.inf}, "not a number"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "no logarithm"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 2}, "a step of 2 is wider than 0 to 1"),
        ({"distribution": "q_log_uniform_values", "min": 1e-5, "max": 1e-2}, "a step of 1 rounds all of"),
        ({"distribution": "log_uniform", "min": 1, "max": 5000}, "use log_uniform_values"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, "not whole"),
        ({"distribution": "uniform", "min": 0.5, "max": 2, "q": 1}, "no setting q"),
        ({"distribution": "uniform", "min": 0.5}, "uniform needs max"),
        ({"distribution": "q_normal", "q": 0}, "q must be above 0"),
        ({"distribution": ["uniform"], "min": 0, "max": 1}, "no distribution ['uniform']"),
        ({"distribution": "log_normal", "mu": 1000, "sigma": 100}, "write the logarithm"),
        ({"distribution": "categorical"}, "categorical needs values"),
        ({"values": [1, 2, 1]}, "1 twice"),
        ({"values": [1, 2], "probabilities": [1]}, "2 values and 1 probability"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "sum up to 1.1"),
        ({"values": [1, 2], "probabilities": [1.5, -0.5]}, "0 or more"),
    ],
)
def test_what_makes_no_distribution_is_a_fault_with_a_fix(content, words):
    assert words in fault(**content)


def test_a_key_that_is_given_twice_is_a_fault():
    tree = {"a.b": {"value": 1}, "a": {"parameters": {"b": {"value": 2}}}}
    _, faults = read_parameters(tree, "random")
    assert "parameters.a.b: it is given twice" in map(str, faults)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True), children, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(plain.filter(lambda value: "${" not in repr(value) and "~/" not in repr(value)))  # a path at home is expanded
@example("xray_zürich_train")
def test_any_value_is_read_back_from_its_override(value):
    changed = apply_overrides(OmegaConf.create({"a": {"b": None}}), [override("a.b", value)])
    assert OmegaConf.to_container(changed) == {"a": {"b": value}}


def test_common_values_need_no_quotes():
    assert [value_text(value) for value in (1e-05, 8, True, None, "xray_smith_train", "/data/run-1", [1, 2])] == [
        "1e-05", "8", "true", "null", "xray_smith_train", "/data/run-1", "[1,2]",
    ]  # fmt: skip


def test_paths_and_numpy_values_are_plain_ones():
    values = {"a": Path("/data/run 1"), "b": np.float64(0.5), "c": np.int64(3), "d": np.array([1.5, 2]), "e": np.True_}
    changed = apply_overrides(OmegaConf.create(dict.fromkeys("abcdef")), [override(*pair) for pair in values.items()])
    changed = apply_overrides(changed, [override("f", [Path("x/y"), np.str_("z")])])
    told = {"a": "/data/run 1", "b": 0.5, "c": 3, "d": [1.5, 2.0], "e": True, "f": ["x/y", "z"]}
    assert OmegaConf.to_container(changed) == told


def test_a_parameter_says_what_it_is():
    assert str(parameter(values=[2, 4])) == "2, 4"
    assert str(parameter(distribution="q_log_uniform_values", min=300, max=5000, q=100)) == (
        "300 to 5000 in steps of 100, q_log_uniform_values"
    )
    assert str(Parameter("a", "normal", {"mu": 0.0, "sigma": 1.0})) == "mu 0, sigma 1, normal"
