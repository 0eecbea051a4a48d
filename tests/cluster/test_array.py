"""Overrides with several values are the jobs of an array."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_lazy.cluster.array import Element, expand
from xray_lazy.config.override_grammar import parse_override
from xray_lazy.errors import UserError


def test_all_combinations_with_names_of_what_varies():
    elements = expand(["optimizer.lr=0.001,0.002", "train.max_iter=5", "train.seed=range(3)"])
    assert [element.name for element in elements] == [
        f"lr={lr}_seed={seed}" for lr in ("0.001", "0.002") for seed in range(3)
    ]
    assert elements[4].overrides == ["optimizer.lr=0.002", "train.max_iter=5", "train.seed=1"]


def test_without_sweeps_there_is_one_job_with_the_overrides_as_they_are():
    overrides = ["train.max_iter=5", "a=[1,2]", "~hooks.ema", "b='x,y'"]
    assert expand(overrides) == [Element("", overrides)]


def test_keys_with_the_same_last_part_are_told_apart():
    names = [element.name for element in expand(["train.period=1,2", "hooks.ema.period=3,4", "train.seed=5,6"])]
    assert names[0] == "train.period=1_ema.period=3_seed=5"


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["a.b='x y','x/y'"], ["b=x-y_1", "b=x-y_2"]),
        (["+a.b=null,1"], ["b=null", "b=1"]),
        (["a.b=[1,2],[3]"], ["b=1-2", "b=3"]),
        (["a.b='',x"], ["b=empty", "b=x"]),
        (["a.b=choice(1,2)"], ["b=1", "b=2"]),
        (["a.b='x y','x/y','x-y_1'"], ["b=x-y_2", "b=x-y_3", "b=x-y_1"]),
        (["a.b[0]=1,2"], ["b-0=1", "b-0=2"]),
        (["~hooks.a", "+hooks.a={b:1},{b:2}"], ["a=b-1", "a=b-2"]),
    ],
)
def test_names_are_fit_for_folders(overrides, names):
    assert [element.name for element in expand(overrides)] == names


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["a.b=1,1"], "a value is there twice"),
        (["train.output_dir=a,b"], "has a folder of its own"),
        (["a.b=interval(0,1)"], "can't be listed"),
        (["~a.b=1,2"], "removes a key"),
        (["a.b=range(100)", "a.c=range(100)"], "are 10000 jobs"),
        (["a.b=(1"], "can't read the override"),
        (["a.b=range(0)"], "has no values"),
        (["a.b=1,2", "++a.b=3"], "a.b is given twice"),
    ],
)
def test_what_cannot_be_an_array_is_one_message(overrides, message):
    with pytest.raises(UserError, match=message):
        expand(overrides)


values = st.lists(st.one_of(st.integers(), st.text("ab/ ü'=,"), st.booleans()), min_size=2, max_size=4, unique_by=repr)


@settings(deadline=None, max_examples=60)
@given(st.lists(values, min_size=1, max_size=3))
def test_any_values_give_distinct_folder_names_and_overrides_that_can_be_read(choices):
    def quoted(value):
        return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else str(value)

    overrides = [f"group.key{n}={','.join(map(quoted, texts))}" for n, texts in enumerate(choices)]
    elements = expand(overrides)
    names = [element.name for element in elements]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w.+=-]+", name) for name in names)
    expected = [[]]
    for texts in choices:
        expected = [[*head, value] for head in expected for value in texts]
    assert [[parse_override(text).value for text in element.overrides] for element in elements] == expected
