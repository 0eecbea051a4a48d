"""Checking: what would fail when the experiment is built, found without building it."""

import functools

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from detectron2.solver.build import get_default_optimizer_params
from omegaconf import OmegaConf

from xray_lazy.config import Fault, apply_overrides, check_config, raise_faults
from xray_lazy.errors import UserError


def check(node, **options):
    return check_config(OmegaConf.create({"node": node}, flags={"allow_objects": True}), **options)


def only_fault(node) -> Fault:
    (fault,) = check(node)
    return fault


def must_not_run(size, speed=1):
    raise AssertionError("a check builds nothing")


def by_position(size, /):
    return size


def anything(**options):
    return options


def test_a_sound_experiment_has_no_faults(tiny):
    assert check_config(tiny) == []


def test_nothing_is_called():
    assert check(L(must_not_run)(size=1)) == []


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("torch.optim.SDG", "torch.optim has no SDG", "torch.optim.SGD"),
        ("torch.optm.SGD", "torch has no optm", "torch.optim"),
        ("torhc.optim.SGD", "there is no module torhc", "torch"),
        ("torch.nn.Linear.forwards", "torch.nn.Linear has no forwards", "torch.nn.Linear.forward"),
        ("torch optim", "not a dotted name", "torch.optim.SGD"),
        ("torch.pi", "a float, which can't be called", "class or a function"),
    ],
)
def test_a_target_that_is_not_there_is_reported_with_near_names(name, message, fix):
    fault = only_fault({"_target_": name})
    assert fault.key == "node._target_"
    assert message in fault.message and fix in fault.fix


def test_a_module_that_fails_while_it_is_imported_is_reported_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "my_backbones.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    fault = only_fault({"_target_": "my_backbones.Net"})
    assert "importing my_backbones fails: ModuleNotFoundError" in fault.message
    assert "a_package_that_is_not_there" in fault.fix


def test_a_module_that_ends_python_while_it_is_imported_is_reported(tmp_path, monkeypatch):
    (tmp_path / "my_script.py").write_text("class Net: ...\nraise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    fault = only_fault({"_target_": "my_script.Net"})
    assert fault.message == "importing my_script fails: SystemExit: 0" and "__main__" in fault.fix


def test_an_unknown_argument_is_reported_with_the_nearest(tiny):
    changed = apply_overrides(tiny, ["+optimizer.momentun=0.5"])
    assert check_config(changed) == [
        Fault("optimizer.momentun", "SGD has no argument momentun", "did you mean momentum?")
    ]


def test_a_missing_argument_is_reported():
    fault = only_fault(L(torch.nn.Linear)(in_features=3))
    assert (fault.key, fault.message) == ("node.out_features", "Linear needs the argument out_features")
    assert fault.fix == "add it: +node.out_features=VALUE"


def test_configurable_classes_are_checked_by_their_explicit_arguments():
    model = L(GeneralizedRCNN)(backbone=None, proposal_generator=None, roi_heads=None, pixel_mean=[0], pixel_std=[1])
    assert check(model) == []
    model.pixel_men = [0]
    assert only_fault(model).fix == "did you mean pixel_mean?"
    assert only_fault(L(FastRCNNConvFCHead)(input_shape=None, conv_dims=[])).key == "node.fc_dims"


def test_callables_without_a_signature_and_with_any_arguments_are_left_alone():
    assert check(L(anything)(a=1)) == []
    assert check({"_target_": "dict", "a": 1}) == []


def test_partials_count_the_arguments_that_they_hold():
    assert check(L(functools.partial(must_not_run, size=1))(speed=2)) == []


def test_an_argument_by_position_only_cannot_be_given():
    assert any("by position only" in fault.message for fault in check(L(by_position)(size=1)))


def test_arguments_that_the_program_adds_itself_are_not_missing():
    optimizer = L(torch.optim.SGD)(lr=0.1, params=L(get_default_optimizer_params)())
    assert [fault.key for fault in check(optimizer)] == ["node.params.model"]
    assert check(optimizer, runtime_arguments={"node.params": ["model"]}) == []
    assert check({"a": optimizer}, runtime_arguments={"*.params": ["model"]}) == []


def test_values_not_given_and_references_that_lead_nowhere_are_reported():
    config = OmegaConf.create({"train": {"max_iter": 5, "seed": "???"}, "steps": "${train.max_itr}", "a": "${foo:1}"})
    faults = {fault.key: fault for fault in check_config(config)}
    assert faults["train.seed"].fix == "give it one: train.seed=VALUE"
    assert faults["steps"].fix == "did you mean train.max_iter?"
    assert set(faults) == {"train.seed", "steps", "a"}


def test_a_node_in_a_list_and_one_in_a_call_are_checked_too():
    steps = L(torch.nn.Sequential)(args=[L(torch.nn.ReLU)(inplce=True)])
    assert "node.args.0.inplce" in [fault.key for fault in check(steps)]


def test_a_node_that_is_referred_to_is_reported_once():
    config = OmegaConf.create({"a": L(COCOEvaluator)(dataset_name="x", tsks=[]), "b": "${a}"})
    assert [fault.key for fault in check_config(config)] == ["a.tsks"]


def test_all_faults_are_raised_together():
    raise_faults([])
    with pytest.raises(UserError, match=r"^a: x\nfix: y$"):
        raise_faults([Fault("a", "x", "y")])
    with pytest.raises(UserError, match="the config has 2 faults\n  a: x\n    fix: y\n  b: z"):
        raise_faults([Fault("a", "x", "y"), Fault("b", "z")])


def test_a_reference_to_a_key_that_is_there_is_not_told_to_name_it():
    config = OmegaConf.create({"a": "${a}", "b": "${c}", "c": "${b}", "d": {"e": "${d}"}, "f": "${g}", "g": "${none}"})
    faults = {fault.key: fault for fault in check_config(config)}
    for key, named in (("a", "a"), ("b", "c"), ("c", "b"), ("d.e", "d"), ("f", "g")):
        assert faults[key].fix == f"write a value at {named}, or refer to another key", key
