"""A resumed optimizer has the states of its checkpoint and the settings of its config."""

import copy

import pytest
import torch
from torch import nn

from xray_lazy.engine.optimizer_state import guard_state


def build(kind, **settings):
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    groups = [{"params": [layer.weight], "lr": settings.get("lr", 0.1) / 10, "name": "slow"}, {"params": [layer.bias]}]
    optimizer = kind(groups, **{"lr": 0.1, **settings})
    guard_state(optimizer)
    return layer, optimizer


def step(layer, optimizer):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()


def resumed(kind, before, after):
    """An optimizer with the settings `after`, from the checkpoint of one that has trained with `before`."""
    layer, earlier = build(kind, **before)
    step(layer, earlier)
    saved = copy.deepcopy(earlier.state_dict())
    layer, optimizer = build(kind, **after)
    optimizer.load_state_dict(saved)
    return layer, optimizer, saved


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (torch.optim.SGD, {"momentum": 0.9}, {"momentum": 0.5, "lr": 0.3, "weight_decay": 0.1}),
        (torch.optim.SGD, {}, {"momentum": 0.5}),
        (torch.optim.AdamW, {"betas": (0.9, 0.99)}, {"betas": (0.5, 0.5), "fused": True, "eps": 1e-6}),
        (torch.optim.AdamW, {"lr": 0.2}, {}),
        (torch.optim.RMSprop, {"alpha": 0.9}, {"alpha": 0.5}),
    ],
)
def test_all_settings_are_the_configs_and_all_states_the_checkpoints(kind, before, after):
    layer, optimizer, saved = resumed(kind, before, after)
    _, fresh = build(kind, **after)
    for group, expected in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        assert {**group, "params": None} == {**expected, "params": None}
    loaded = optimizer.state_dict()["state"]
    assert loaded.keys() == saved["state"].keys()
    for number, states in saved["state"].items():
        assert all(torch.equal(loaded[number][name], value) for name, value in states.items() if value is not None)
    step(layer, optimizer)


def test_a_setting_that_needs_a_state_which_is_not_there_is_refused():
    with pytest.raises(KeyError, match="momentum_buffer"):
        resumed(torch.optim.RMSprop, {}, {"momentum": 0.9})


class Counting(torch.optim.SGD):
    """It keeps a count in its groups, as schedule-free optimizers do."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr)
        for group in self.param_groups:
            group["steps"] = 0

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            group["steps"] += 1


def test_what_an_optimizer_keeps_in_its_groups_is_state():
    _, optimizer, _ = resumed(Counting, {}, {"lr": 0.5})
    assert [(group["steps"], group["lr"]) for group in optimizer.param_groups] == [(1, 0.05), (1, 0.5)]


def test_one_whose_step_needs_a_closure_is_resumed():
    optimizer = torch.optim.LBFGS(nn.Linear(3, 2).parameters(), lr=0.5)
    guard_state(optimizer)
    optimizer.load_state_dict(torch.optim.LBFGS(nn.Linear(3, 2).parameters()).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5
