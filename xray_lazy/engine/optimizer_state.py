"""On resume an optimizer's states are the checkpoint's, its settings the config's; it takes no other kind's states."""

import contextlib
import copy
import inspect
from typing import Any

import torch
from torch import nn

KIND = "kind"  # key in the state
HOW_IT_COMPUTES = {"foreach", "fused", "capturable", "differentiable"}  # with the same results


def guard_state(optimizer: torch.optim.Optimizer) -> None:
    """Let `optimizer`, as it was built from the config, load no more than states.

    Settings are the arguments of its class, such as learning rate and weight decay, and the names of its groups. What
    it keeps beside them, for a parameter or for a group, is state. That of another kind of optimizer, or with other
    switches, is a ValueError, and one that lacks what a setting needs a KeyError: torch itself takes any whose groups
    have the same sizes, and fails at the first step or computes what the config does not say.
    """
    names = {*inspect.signature(type(optimizer)).parameters, "name"} - {"params"}
    settings = [{name: group[name] for name in names & group.keys()} for group in optimizer.param_groups]

    def take_states(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        _check(optimizer, state)
        groups = [{**group, **own} for group, own in zip(state["param_groups"], settings, strict=True)]
        return {**state, "param_groups": groups}

    optimizer.register_state_dict_post_hook(_add_kind)
    optimizer.register_load_state_dict_pre_hook(take_states)
    optimizer.register_load_state_dict_post_hook(_try_step)


def _add_kind(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    return {**state, KIND: type(optimizer).__name__}


def _check(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    kind = type(optimizer).__name__
    if state.get(KIND, kind) != kind:
        raise ValueError(f"the optimizer was {state[KIND]} and is {kind}")
    sizes = [[len(group["params"]) for group in groups] for groups in (state["param_groups"], optimizer.param_groups)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"the optimizer had {sum(sizes[0])} parameters in groups of {sizes[0]} and has {sum(sizes[1])} in groups "
            f"of {sizes[1]}, as with other parts frozen, or other rates by part"
        )
    for before, now in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for name, value in now.items():
            is_switch = isinstance(value, bool) and name not in HOW_IT_COMPUTES
            if is_switch and before.get(name, value) != value:
                raise ValueError(f"optimizer.{name} was {before[name]} and is {value}")


def _try_step(optimizer: torch.optim.Optimizer) -> None:
    """With copies of some parameters: RMSprop, say, fails at the first one with a momentum that it had not before."""
    kind: Any = type(optimizer)
    for group in optimizer.param_groups:
        parameter = min(group["params"], key=torch.Tensor.numel)
        twin = nn.Parameter(parameter.detach().clone())
        twin.grad = torch.zeros_like(twin)
        with contextlib.suppress(TypeError):  # one whose step is called with a closure
            trial = kind([{**group, "params": [twin]}])
            trial.state[twin] = copy.deepcopy(optimizer.state.get(parameter, {}))
            trial.step()
