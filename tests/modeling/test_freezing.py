"""Parts that are not trained stay exactly as they are."""

import copy

import pytest
import torch
from torch import nn

from xray_lazy.errors import UserError
from xray_lazy.modeling.freezing import freeze


class Head(nn.Module):
    """Gives a loss in training, else a score; it holds a layer."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout = nn.Linear(4, 1), nn.Dropout(0.5)

    def forward(self, features):
        score = self.linear(self.dropout(features)).mean()
        return {"loss": score**2} if self.training else score


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "res2": nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5)),
                "res3": nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5)),
            }
        )
        self.head = Head()

    def forward(self, images):
        return self.head(self.backbone["res3"](self.backbone["res2"](images)).mean((2, 3)))


def train_steps(model, count=2):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(count):
        model.train()
        optimizer.zero_grad()
        model(torch.randn(2, 3, 4, 4))["loss"].backward()
        optimizer.step()
        model.eval()


@pytest.mark.parametrize("pattern", ["backbone.res2", "backbone.res2.*", "*.res2"])
def test_weights_and_batch_norm_of_a_frozen_part_stay_and_the_rest_learns(pattern):
    torch.manual_seed(0)
    model = Model()
    freeze(model, [pattern])
    before = copy.deepcopy(model.state_dict())
    train_steps(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("backbone.res2."), name


def test_dropout_is_off_in_frozen_parts_and_on_in_others():
    model = Model()
    freeze(model, ["backbone.res2"])
    model.train()
    assert not model.backbone["res2"][2].training and model.backbone["res3"][2].training


def test_a_frozen_head_still_gives_losses_in_training():
    model = Model()
    freeze(model, ["head"])
    model.train()
    assert set(model(torch.randn(2, 3, 4, 4))) == {"loss"}
    assert not model.head.dropout.training


def test_a_copy_of_a_model_has_frozen_layers_of_its_own():
    model = Model()
    freeze(model, ["backbone.res2"])
    twin = copy.deepcopy(model).train()
    assert not twin.backbone["res2"][1].training
    assert twin.backbone["res2"][1].train() is twin.backbone["res2"][1]


def test_a_part_that_is_not_there_is_an_error_with_near_names():
    with pytest.raises(UserError, match=r"train\.freeze: 'backbone\.res4'") as error:
        freeze(Model(), ["backbone.res4"])
    assert "backbone.res" in error.value.fix
