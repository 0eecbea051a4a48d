"""Learning rate schedules as fvcore parameter schedulers: multipliers over the progress of training, 0 to 1."""

from bisect import bisect_right
from collections.abc import Sequence

from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import (
    ConstantParamScheduler,
    CosineParamScheduler,
    ParamScheduler,
)

# whoever sets a short train.max_iter wants to see learning, not a warm-up that fills the run
LONGEST_WARMUP = 0.25


def warmup_cosine(
    max_iter: int, warmup_iters: int = 1000, warmup_factor: float = 0.001, final_factor: float = 0.0
) -> ParamScheduler:
    """Half a cosine from 1 to `final_factor` (Loshchilov & Hutter, ICLR 2017) after a linear warm-up."""
    return _with_warmup(CosineParamScheduler(1.0, final_factor), max_iter, warmup_iters, warmup_factor)


def warmup_multi_step(
    max_iter: int,
    milestones: Sequence[float],
    gamma: float = 0.1,
    warmup_iters: int = 1000,
    warmup_factor: float = 0.001,
) -> ParamScheduler:
    """Times `gamma` at each milestone, given as fractions of the run, after a linear warm-up."""
    return _with_warmup(_Steps(sorted(milestones), gamma), max_iter, warmup_iters, warmup_factor)


def warmup_constant(max_iter: int, warmup_iters: int = 1000, warmup_factor: float = 0.001) -> ParamScheduler:
    """1 after a linear warm-up."""
    return _with_warmup(ConstantParamScheduler(1.0), max_iter, warmup_iters, warmup_factor)


class _Steps(ParamScheduler):
    """fvcore's multi-step scheduler counts milestones in iterations and refuses those of very short runs."""

    def __init__(self, milestones: Sequence[float], gamma: float):
        self.milestones, self.gamma = milestones, gamma

    def __call__(self, where: float) -> float:
        return self.gamma ** bisect_right(self.milestones, where)


def _with_warmup(scheduler: ParamScheduler, max_iter: int, warmup_iters: int, factor: float) -> ParamScheduler:
    length = min(warmup_iters / max_iter, LONGEST_WARMUP)
    return WarmupParamScheduler(scheduler, factor, length) if length > 0 else scheduler
