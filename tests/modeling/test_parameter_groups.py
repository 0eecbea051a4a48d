"""Learning rate and weight decay per parameter."""

import pytest
from torch import nn

from xray_lazy.errors import UserError
from xray_lazy.modeling.parameter_groups import ParameterGroups


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.tied = self.head
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


class Deep(nn.Module):
    """Three layers with batch norm, and a head."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {name: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)) for name in ("stem", "res2", "res3")}
        )
        self.head = nn.Linear(2, 2)


LAYERS = ["backbone.stem", "backbone.res2.*", "backbone.res3"]


def settings_by_name(model, groups):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def rates_by_name(model, groups):
    return {name: lr for name, (lr, _) in settings_by_name(model, groups).items()}


def test_norms_and_biases_have_no_decay_and_the_backbone_its_own_rate():
    model = Model()
    groups = ParameterGroups(lr_factors={"backbone": 0.1})(model, lr=1.0, weight_decay=0.5)
    assert settings_by_name(model, groups) == {
        "backbone.0.weight": (0.1, 0.5),
        "backbone.0.bias": (0.1, 0.0),
        "backbone.1.weight": (0.1, 0.0),
        "backbone.1.bias": (0.1, 0.0),
        "head.weight": (1.0, 0.5),
        "head.bias": (1.0, 0.0),
    }
    assert {(group["name"], group["lr"]) for group in groups} == {("backbone", 0.1), ("", 1.0)}


def test_of_several_patterns_the_last_one_counts():
    model = Deep()
    groups = ParameterGroups(lr_factors={"backbone.*": 0.1, "backbone.res3": 0.5})(model, lr=1.0, weight_decay=0.0)
    rates = rates_by_name(model, groups)
    assert rates["backbone.res2.0.weight"] == 0.1 and rates["backbone.res3.0.weight"] == 0.5
    assert rates["head.weight"] == 1.0


def test_layers_nearer_to_the_image_learn_slower():
    model = Deep()
    groups = ParameterGroups(layer_decay=0.5, layers=LAYERS)(model, lr=8.0, weight_decay=0.0)
    rates = rates_by_name(model, groups)
    assert [rates[f"backbone.{layer}.0.weight"] for layer in ("stem", "res2", "res3")] == [1.0, 2.0, 4.0]
    assert rates["head.weight"] == 8.0
    assert {group["name"] for group in groups} == {"backbone.stem", "backbone.res2", "backbone.res3", ""}


def test_layer_decay_and_the_factor_of_a_part_multiply_under_both_names():
    model = Deep()
    decayed = ParameterGroups(lr_factors={"backbone": 0.1}, layer_decay=0.5, layers=LAYERS)
    groups = decayed(model, lr=1.0, weight_decay=0.0)
    assert rates_by_name(model, groups)["backbone.stem.0.weight"] == pytest.approx(0.1 * 0.5**3)
    assert "backbone.stem+backbone" in {group["name"] for group in groups}


def test_weight_decay_by_part_counts_for_norms_and_biases_too():
    model = Model()
    groups = ParameterGroups(weight_decays={"backbone.1": 0.3, "*.bias": 0.2})(model, lr=1.0, weight_decay=0.5)
    decays = {name: decay for name, (_, decay) in settings_by_name(model, groups).items()}
    assert decays["backbone.1.weight"] == 0.3 and decays["backbone.1.bias"] == decays["head.bias"] == 0.2
    assert decays["head.weight"] == 0.5


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"lr_factors": {"backbne": 0.1}}, "lr_factors"),
        ({"weight_decays": {"backbne.*": 0.1}}, "weight_decays"),
        ({"layer_decay": 0.5, "layers": ["backbne"]}, "layers"),
    ],
)
def test_a_pattern_that_means_nothing_is_an_error_with_near_names(settings, key):
    with pytest.raises(UserError, match=rf"optimizer\.params\.{key}: 'backbne") as error:
        ParameterGroups(**settings)(Model(), 1.0, 0.1)
    assert "backbone" in error.value.fix


def test_layers_of_another_backbone_do_no_harm_while_layer_decay_is_off():
    assert ParameterGroups(layers=["vit.blocks.0"])(Model(), 1.0, 0.1)


def test_layer_decay_without_layers_is_an_error():
    with pytest.raises(UserError, match="no layers"):
        ParameterGroups(layer_decay=0.5)


def test_each_trainable_parameter_is_in_one_group():
    model = Model()
    in_groups = [p for group in ParameterGroups()(model, 1.0, 0.1) for p in group["params"]]
    assert len(in_groups) == len(set(in_groups)) == sum(p.requires_grad for p in model.parameters())


def test_none_leaves_the_decay_of_the_optimizer():
    groups = ParameterGroups(weight_decay_norm=None, weight_decay_bias=None)(Model(), 1.0, 0.5)
    assert [group["weight_decay"] for group in groups] == [0.5]
