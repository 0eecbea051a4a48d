"""Cluster profiles: files, flags, and what is wrong in them."""

import argparse
import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from xray_lazy.cluster.cluster_profile import (
    Profile,
    add_profile_flags,
    change_profile,
    given_flags,
    load_profile,
    parse_time,
)
from xray_lazy.errors import UserError

A100 = """
executor: slurm
partition: gpu
gpus_per_node: 8
time: 24:00:00
setup:
  - module load cuda/12.4
sbatch:
  reservation: week
"""


@pytest.fixture
def a100(tmp_path):
    path = tmp_path / "a100.yaml"
    path.write_text(A100)
    return path


def flags(*words):
    parser = argparse.ArgumentParser()
    add_profile_flags(parser)
    return given_flags(parser.parse_args(words))


def test_flags_stand_in_for_the_keys_of_the_file(a100):
    profile = load_profile(a100, flags("--nodes", "2", "--gpus-per-node", "4", "--sbatch", "nice=10", "--time", "90"))
    assert (profile.nodes, profile.world_size, profile.minutes) == (2, 8, 90)
    assert profile.sbatch == {"reservation": "week", "nice": "10"}
    assert profile.setup == ["module load cuda/12.4"]
    assert load_profile(a100, flags("--setup", "export A=1")).setup == ["export A=1"]


def test_a_time_without_quotes_is_not_read_as_a_number_to_base_60(a100):
    assert load_profile(a100, {}).minutes == 24 * 60


def test_every_key_is_a_flag():
    assert set(flags()) == {field.name for field in dataclasses.fields(Profile)}


def test_a_changed_profile_keeps_what_no_flag_names(a100):
    profile = load_profile(a100, {})
    changed = change_profile(profile, flags("--time", "2:00:00"))
    assert changed == dataclasses.replace(profile, time="2:00:00")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("partitoin: gpu", ["unknown key partitoin", "did you mean partition"]),
        ("gpus_per_node: many", ["gpus_per_node", "'many' is not a whole number"]),
        ("nodes: [1, 2]", ["nodes", "not a whole number"]),
        ("partition: [a, b]", ["partition is a list"]),
        ("setup: {a: b}", ["setup is not a list"]),
        ("sbatch: nice", ["sbatch is not a mapping"]),
        ("time: soon", ["'soon' is not a time", "24:00:00"]),
        ("time: 0", ["no time at all"]),
        ("executor: slrm", ["no executor slrm", "did you mean slurm"]),
        ("nodes: 0", ["nodes is 0"]),
        ("signal_delay: 100000", ["the signal comes 100000 s before"]),
        ("nodes: 2\nexecutor: local", ["has one machine, not 2"]),
        ("executor: debug", ["debug runs one process"]),
        ("time: ''", ["no time limit"]),
        ("a: [", ["line "]),
    ],
)
def test_what_is_wrong_is_one_message(a100, line, words):
    whole = dict(text.split(": ", 1) for text in ("executor: slurm", "gpus_per_node: 2", "time: 24:00:00"))
    whole |= dict(text.split(": ", 1) for text in line.split("\n"))
    a100.write_text("\n".join(f"{key}: {value}" for key, value in whole.items()))
    with pytest.raises(UserError) as error:
        load_profile(a100, {})
    for word in words:
        assert word in str(error.value)


def test_a_profile_that_is_not_there_names_near_ones(a100):
    with pytest.raises(UserError, match=r"a100\.yaml"):
        load_profile(a100.with_name("a10.yaml"), {})


def test_without_a_profile_jobs_run_on_this_machine():
    assert load_profile(None, {}).executor == "local"
    with pytest.raises(UserError, match="no time limit"):
        load_profile(None, {"executor": "slurm"})


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_profiles_that_come_along_can_be_read(path):
    assert load_profile(path, {}).world_size >= 1


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_times_are_read_as_slurm_does(days, hours, minutes, seconds):
    total = (days * 24 + hours) * 60 + minutes + 1  # seconds are rounded up
    assert parse_time(f"{days}-{hours}:{minutes}:{seconds}") == total
    assert parse_time(f"{days * 24 + hours:02}:{minutes:02}:{seconds:02}") == total
    assert parse_time(f"{minutes}:{seconds:02}") == minutes + 1
    assert parse_time(f"1-{hours}") == (24 + hours) * 60
    assert parse_time(f"{minutes + 1}") == minutes + 1


@given(st.text(max_size=12))
def test_any_text_is_a_time_or_a_user_error(text):
    with contextlib.suppress(UserError):
        assert parse_time(text) >= 1
