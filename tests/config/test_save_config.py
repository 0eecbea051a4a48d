"""Saving: resolved YAML that loads again and builds the same things."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import LazyCall, LazyConfig, instantiate
from omegaconf import OmegaConf

from xray_lazy.config import diff_configs, flatten, load_config, save_config, to_yaml
from xray_lazy.errors import UserError


def reload(config, tmp_path):
    save_config(config, tmp_path / "config.yaml")
    return load_config(tmp_path / "config.yaml")


def with_value(value):
    return OmegaConf.create({"node": {"value": value}}, flags={"allow_objects": True})


def test_a_saved_experiment_loads_equal_and_its_keys_follow_each_other(tiny, tmp_path):
    loaded = reload(tiny, tmp_path)
    assert diff_configs(tiny, loaded) == []
    loaded.dataloader.test.dataset.names = "xray_test"
    assert loaded.dataloader.evaluator.dataset == {"names": "xray_test"}


def test_the_yaml_has_values_in_place_of_references_where_it_is_to_be_read(tiny):
    text = to_yaml(tiny)
    assert "${" not in text
    assert yaml.unsafe_load(text)["dataloader"]["evaluator"]["dataset"] == {"names": "xray_val"}


def test_a_saved_experiment_is_saved_the_same_again(tiny, tmp_path):
    for references in (False, True):
        assert to_yaml(reload(tiny, tmp_path), references) == to_yaml(tiny, references)


def test_what_an_environment_variable_says_is_saved_as_its_value(tmp_path, monkeypatch):
    monkeypatch.setenv("SCANS", "/scans")
    config = OmegaConf.create({"root": "${oc.env:SCANS}", "file": "${root}/a.json", "both": "${root} ${oc.env:SCANS}"})
    save_config(config, tmp_path / "config.yaml")
    monkeypatch.delenv("SCANS")
    assert load_config(tmp_path / "config.yaml") == {"root": "/scans", "file": "/scans/a.json", "both": "/scans /scans"}
    assert "${root}/a.json" in (tmp_path / "config.yaml").read_text()


def test_a_saved_experiment_builds_the_same_model(tiny, tmp_path):
    built = [instantiate(config.model.net) for config in (tiny, reload(tiny, tmp_path))]
    assert str(built[0]) == str(built[1])
    assert built[1].linear.out_features == 13


def test_targets_are_written_as_dotted_names(tiny):
    assert yaml.unsafe_load(to_yaml(tiny))["model"]["net"]["stages"]["_target_"].endswith("ResNet.make_default_stages")


def test_detectron2_reads_a_saved_experiment_too(tiny, tmp_path):
    save_config(tiny, tmp_path / "config.yaml")
    assert LazyConfig.load(str(tmp_path / "config.yaml")).model.activation is torch.nn.ReLU


@pytest.mark.parametrize("value", [torch.nn.GELU, torch.nn.functional.relu, torch.bfloat16, torch.nn.Linear.forward])
def test_classes_functions_and_dtypes_come_back_as_themselves(value, tmp_path):
    assert reload(with_value(value), tmp_path).node.value is value


def test_a_partial_comes_back_as_an_equal_one(tmp_path):
    config = with_value(functools.partial(torch.nn.LayerNorm, eps=1e-6))
    loaded = reload(config, tmp_path)
    assert loaded.node.value(4).eps == 1e-6
    assert diff_configs(config, loaded) == []


def test_paths_are_saved_as_text_and_not_a_number_as_itself(tmp_path):
    config = with_value([Path("a/b"), float("nan"), float("-inf")])
    assert diff_configs(config, reload(config, tmp_path)) == []


@pytest.mark.parametrize("value", [lambda x: x, torch.nn.ReLU(), object(), {1, 2}, torch.zeros(2)])
def test_what_has_no_name_to_load_it_by_is_refused_with_its_key(value):
    with pytest.raises(UserError, match=r"node\.value: .* can't be saved"):
        to_yaml(with_value(value))


@pytest.mark.parametrize(
    ("value", "fix"),
    [(range(3), "list(...)"), ({1}, "list(...)"), ({}.keys(), "list(...)"), (np.arange(3), ".tolist()")],
)
def test_a_collection_that_is_no_list_is_to_be_made_one(value, fix):
    with pytest.raises(UserError) as refused:
        to_yaml(with_value(value))
    assert fix in refused.value.fix and type(value).__name__ in refused.value.message


def test_a_function_of_a_config_file_is_refused_with_its_key(tmp_path):
    source = "from detectron2.config import LazyCall as L\ndef double(x):\n    return 2 * x\nmodel = L(double)(x=1)\n"
    (tmp_path / "experiment.py").write_text(source)
    with pytest.raises(UserError, match=r"model\._target_: .* can't be saved"):
        to_yaml(load_config(tmp_path / "experiment.py"))


def test_a_reference_that_leads_nowhere_is_refused_with_its_key():
    with pytest.raises(UserError, match=r"a\.b: \$\{nowhere\} can't be resolved"):
        to_yaml(OmegaConf.create({"a": {"b": "${nowhere}"}}))


def test_a_value_that_is_not_given_yet_stays_so(tmp_path):
    loaded = reload(OmegaConf.create({"a": "???", "b": "${a}"}), tmp_path)
    assert OmegaConf.is_missing(loaded, "a") and flatten(loaded) == {"a": "???", "b": "???"}


def test_a_failed_save_leaves_the_old_file(tiny, tmp_path):
    path = tmp_path / "config.yaml"
    save_config(tiny, path)
    with pytest.raises(UserError):
        save_config(with_value(object()), path)
    assert diff_configs(tiny, load_config(path)) == []
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: !!python/object/apply:os.system ['true']\n", r"line 1: !!python/object/apply:os\.system builds an object"),
        ("a: 1\nb: [1\n", "line 3"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: the key 'b' stands twice"),
        ("a: !!python/name:torch.nn.GLEU ''\n", "line 1: .* torch.nn has no GLEU"),
        (f"a: &a [{'1,' * 150}]\nb: [{'*a,' * 150}]\n", "line 2: its aliases stand for more than 10,000 values"),
        ("- 1\n", "holds no config"),
        ("", "holds no config"),
    ],
)
def test_a_broken_or_unsafe_file_is_refused(content, message, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / "config.yaml")


def test_numbers_written_by_hand_are_numbers(tmp_path):
    (tmp_path / "config.yaml").write_text("lr: 1e-3\nday: 2024-01-01\n")
    assert load_config(tmp_path / "config.yaml") == {"lr": 1e-3, "day": "2024-01-01"}


def test_a_flat_config_has_plain_values_by_dotted_keys(tiny):
    flat = flatten(tiny)
    assert flat["train.max_iter"] == 60
    assert flat["dataloader.evaluator.dataset.names"] == "xray_val"
    assert flat["dataloader.test.sizes"] == [[32], [64]]
    assert flat["model.activation"] == "torch.nn.ReLU"
    nodes = OmegaConf.create({"steps": [LazyCall(torch.nn.ReLU)(inplace=True), 3]})
    assert flatten(nodes) == {"steps.0.inplace": True, "steps.0._target_": "torch.nn.ReLU", "steps.1": 3}


def test_a_difference_names_the_key_and_both_values():
    old = OmegaConf.create({"train": {"max_iter": 5000, "seed": 1}, "lr": float("nan")})
    new = OmegaConf.create({"train": {"max_iter": 300, "device": "cpu"}, "lr": float("nan")})
    expected = ["train.max_iter: 5000 -> 300", "train.seed: 1 -> removed", "train.device: added -> 'cpu'"]
    assert diff_configs(old, new) == expected


def test_groups_that_hold_each_other_are_reported_not_followed():
    config = OmegaConf.create({"a": {"b": "${c}"}, "c": {"d": "${a}"}})
    with pytest.raises(UserError, match="can't be resolved"):
        to_yaml(config)
    assert flatten(config)["c.d.b"] == "${...}"
