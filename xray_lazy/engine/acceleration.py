"""Speed-ups that leave the losses as they are, and that a run goes on without where they fail."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch._functorch.config
from detectron2.config import instantiate
from detectron2.utils import comm
from torch import nn

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.data.loaders import is_worker_death
from xray_lazy.errors import UserError
from xray_lazy.modeling.world_size import alone

# whose fused kernels look at `found_inf`, an attribute that torch's loss scaling sets
LEAVE_OUT = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)
GIVES_WAY = "%s fails for %s, which runs without it: %s"

logger = logging.getLogger(__name__)


def compile_parts(
    model: nn.Module,
    parts: Sequence[str],
    mode: str = "default",
    dynamic: bool | None = True,
    backend: str = "inductor",
) -> None:
    """Let torch.compile speed up parts of a model, in place: names in the state dict stay.

    A part that does not compile runs as it is after one warning. Losses differ by float32 rounding.

    Args:
        parts: names of submodules; `*` matches anything (`head.head_series.*`). Parts inside of a named one are
            compiled with it.
        mode, dynamic, backend: of `torch.compile`; `dynamic=True` compiles for images of any size at once.

    Raises:
        UserError: the model has no such part, or there is no such mode or backend.
    """
    if backend not in torch.compiler.list_backends(exclude_tags=()):
        raise UserError(
            f"train.compile.backend: torch has no {backend!r}", f"it has {', '.join(torch.compiler.list_backends())}"
        )
    from torch._inductor import list_mode_options  # takes a while, and most runs compile nothing

    modes = list(list_mode_options())
    if backend == "inductor" and mode is not None and mode not in modes:
        raise UserError(f"train.compile.mode is {mode!r}", f"it may be {' or '.join(modes)}")
    # the backward pass is compiled with the forward pass, where a failure can still be met
    torch._functorch.config.force_non_lazy_backward_lowering = True
    for name, part in _named_parts(model, parts).items():
        try:
            part.compile(mode=mode, dynamic=dynamic, backend=backend)
        except RuntimeError as error:  # such as a Python that torch does not compile for
            raise UserError(f"train.compile: {_reason(error)}", "set train.compile.enabled=False") from None
        compiled: Any = part._compiled_call_impl
        _SpeedUp(part, compiled, lambda: None, "train.compile", name)


def use_channels_last(model: nn.Module) -> None:
    """Store the weights of 2-d convolutions channels last, as tensor cores read them; their outputs follow.

    A model that can't work on this order goes back to the usual one, with a warning. Losses differ by float32 rounding.
    """

    def undo() -> None:
        model.to(memory_format=torch.contiguous_format)

    try:
        model.to(memory_format=torch.channels_last)
    except RuntimeError as error:  # such as weights of 3-d convolutions
        undo()
        logger.warning(GIVES_WAY, "train.channels_last", type(model).__name__, _reason(error))
    else:
        _SpeedUp(model, model._call_impl, undo, "train.channels_last", type(model).__name__)


def instantiate_optimizer(node: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that a node describes; without its fused kernel, and with a warning, where it has none for it.

    Where the node leaves `fused` open, that is what a GPU gets.
    """
    if "fused" in node and node["fused"] is None and any(p.device.type != "cpu" for p in _parameters(node["params"])):
        node = {**node, "fused": True}
    try:
        optimizer = instantiate(node)
    except RuntimeError as error:
        if not node.get("fused"):
            raise
        logger.warning(GIVES_WAY, "optimizer.fused", "this optimizer", _reason(error))
        optimizer = instantiate({**node, "fused": None})
    # A step that float16's loss scaler leaves out is then no call at all. Else a fused optimizer is called, and SGD's
    # momentum is uninitialised memory from then on if it was the first step, which a scaler often leaves out.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def can_leave_out(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step can be left to the device, see `step_if`."""
    return type(optimizer) in LEAVE_OUT and all(group.get("fused") for group in optimizer.param_groups)


def step_if(optimizer: torch.optim.Optimizer, condition: torch.Tensor) -> None:
    """A step of a fused optimizer that changes nothing unless a scalar on the device is true: nobody waits for it."""
    fused: Any = optimizer  # reads an attribute that the base class does not have
    fused.found_inf = (~condition).float()
    try:
        fused.step()
    finally:
        del fused.found_inf


def _parameters(groups: Iterable) -> Iterator[torch.Tensor]:
    for group in groups:
        yield from group["params"] if isinstance(group, Mapping) else [group]


class _SpeedUp:
    """A faster call of a module, which after a failure is undone and called plainly from then on, with a warning.

    In training, a forward pass exchanges numbers with other processes: repeated in one of them, it would meet another
    exchange of theirs. There, only what `try_together` runs may fail.
    """

    def __init__(self, module: nn.Module, call: Callable, undo: Callable[[], None], what: str, where: str):
        self.module, self.call, self.undo, self.what, self.where = module, call, undo, what, where
        self.is_on_trial = False
        self.failure = ""
        # what nn.Module.compile sets: left out of copies and of the state dict
        module._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.call(*args, **kwargs)
        except (torch.OutOfMemoryError, torch.distributed.DistError):
            raise
        except Exception as error:
            may_repeat = self.is_on_trial or not self.module.training or comm.get_world_size() == 1
            if not may_repeat or is_worker_death(error):  # the latter is nothing that this call did
                raise
            self.undo()
            result = self.module._call_impl(*args, **kwargs)  # fails as well if the model itself is at fault
            self.module._compiled_call_impl = None
            self.failure = _reason(error)
            if not self.is_on_trial:
                self.give_way(self.failure)
            return result

    def give_way(self, failure: str) -> None:
        """Do without it, in all processes alike."""
        self.undo()
        self.module._compiled_call_impl = None
        logger.warning(GIVES_WAY, self.what, self.where, failure)


def try_together(model: nn.Module, run: Callable[[], Any]) -> bool:
    """Let all processes do without each speed-up that fails in one of them; whether `run` was called for that.

    Args:
        model: not wrapped for data-parallel training.
        run: a forward pass of the model as in training, in which processes exchange nothing.
    """
    calls = [module._compiled_call_impl for module in model.modules()]
    speed_ups = [call for call in calls if isinstance(call, _SpeedUp)]
    if comm.get_world_size() == 1 or not speed_ups:
        return False
    for speed_up in speed_ups:
        speed_up.is_on_trial = True
    with alone():
        run()
    failures = comm.all_gather([speed_up.failure for speed_up in speed_ups])
    for speed_up, *of_processes in zip(speed_ups, *failures, strict=True):
        speed_up.is_on_trial = False
        if any(of_processes):
            speed_up.give_way(next(filter(None, of_processes)))
    return True


def _named_parts(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """The submodules that patterns name, without those that lie inside of another one."""
    modules = {name: module for name, module in model.named_modules() if name}
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        names = [name for name in modules if fnmatchcase(name, pattern)]
        if not names:
            children = ", ".join(name for name, _ in model.named_children())
            raise UserError(
                f"train.compile.parts: {type(model).__name__} has no part {pattern!r}; its parts are {children}",
                did_you_mean(nearest(pattern, modules)) or "name some of these, or parts of them",
            )
        found |= {name: modules[name] for name in names}
    return {name: part for name, part in found.items() if not any(name.startswith(f"{other}.") for other in found)}


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
