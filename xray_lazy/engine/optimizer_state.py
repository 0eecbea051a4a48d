"""An optimizer's state tells whose it is, and no other kind of optimizer takes it."""

from typing import Any

import torch

KIND = "kind"  # key in the state
HOW_IT_COMPUTES = {"foreach", "fused", "capturable", "differentiable"}  # with the same results


def guard_state(optimizer: torch.optim.Optimizer) -> None:
    """Record the kind of `optimizer` in its states; loading that of another kind, or other switches, is a ValueError.

    Torch itself takes any state with groups of the same sizes, and fails at the first step or computes what the
    config does not say.
    """
    optimizer.register_state_dict_post_hook(_add_kind)
    optimizer.register_load_state_dict_pre_hook(_check)


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
