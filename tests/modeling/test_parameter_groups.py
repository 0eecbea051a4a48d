"""Learning rate and weight decay per parameter."""

from torch import nn

from xray_lazy.modeling.parameter_groups import ParameterGroups


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.tied = self.head
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def settings_by_name(model, groups):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_norms_and_biases_have_no_decay_and_the_backbone_its_own_rate():
    model = Model()
    groups = ParameterGroups(backbone_lr_factor=0.1)(model, lr=1.0, weight_decay=0.5)
    assert settings_by_name(model, groups) == {
        "backbone.0.weight": (0.1, 0.5),
        "backbone.0.bias": (0.1, 0.0),
        "backbone.1.weight": (0.1, 0.0),
        "backbone.1.bias": (0.1, 0.0),
        "head.weight": (1.0, 0.5),
        "head.bias": (1.0, 0.0),
    }


def test_each_trainable_parameter_is_in_one_group():
    model = Model()
    in_groups = [p for group in ParameterGroups()(model, 1.0, 0.1) for p in group["params"]]
    assert len(in_groups) == len(set(in_groups)) == sum(p.requires_grad for p in model.parameters())


def test_none_leaves_the_decay_of_the_optimizer():
    groups = ParameterGroups(weight_decay_norm=None, weight_decay_bias=None)(Model(), 1.0, 0.5)
    assert [group["weight_decay"] for group in groups] == [0.5]
