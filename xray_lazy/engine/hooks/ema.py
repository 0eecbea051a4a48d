"""Exponential moving average of the weights (Polyak and Juditsky, 1992), evaluated beside or instead of them."""

import copy
import itertools
import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm
from torch import nn

from xray_lazy.errors import UserError
from xray_lazy.run_folder import FINAL_AVERAGE, RunFolder

SUFFIX = "_EMA"  # at the names of tasks and evaluation folders
RUNNING_STATISTICS = ("running_mean", "running_var")

logger = logging.getLogger(__name__)


class ExponentialMovingAverage(HookBase):
    """Average the weights over the steps of the optimizer: `average = decay * average + (1 - decay) * weight`.

    Parameters and batch norm's running statistics are averaged in float32, whatever the type of the model; all other
    buffers, such as counters, are those of the model. A step that was left out is no step. The average is in every
    checkpoint, and alone in `model_final_ema.pth` when training is done, for `train.init_checkpoint`.

    Args:
        decay: from 0, which is off, to below 1; it reaches about `1 / (1 - decay)` steps back. The n-th step has
            `min(decay, n / (9 + n))`, so that the average soon forgets the weights that training started from.
        evaluate: "beside" the weights or "instead" of them; the metrics' names have `_EMA` at the task, `bbox_EMA/AP`.

    It goes before the hooks that evaluate and save.
    """

    gives_metrics = 2

    def __init__(self, decay: float = 0.0, evaluate: str = "beside"):
        if not 0 <= decay < 1:
            raise UserError(f"hooks.ema.decay is {decay}", "set it to 0 (off) or below 1, e.g. 0.9998")
        if evaluate not in ("beside", "instead"):
            raise UserError(f"hooks.ema.evaluate is {evaluate!r}", "it may be beside or instead")
        self.decay, self.evaluate = decay, evaluate
        self.model: nn.Module | None = None
        self.steps = 0  # with those that a device has left out
        self._left_out = torch.zeros(())
        self._state: dict[str, Any] = {}

    def why_never(self, metric: str) -> tuple[str, str] | None:
        """See `MayBeOff`."""
        if self.decay or f"{SUFFIX}/" not in metric:
            return None
        return "no averaged weights are evaluated", "set hooks.ema.decay, e.g. to 0.9998, or leave out _EMA"

    def before_train(self) -> None:
        if not self.decay:
            return
        self.join_evaluation()
        self._pair_tensors(self.trainer.evaluated_models[SUFFIX])
        # called by the optimizer itself: neither steps that the trainer skips nor those of a loss scaler get here
        self._handle = self.trainer.optimizer.register_step_post_hook(lambda *_: self._update())
        beside = "beside the weights" if self.evaluate == "beside" else "instead of the weights"
        logger.info("the average of the weights, with decay %g, is evaluated %s", self.decay, beside)

    def join_evaluation(self) -> None:
        """Let evaluation look at the average; called by itself where a checkpoint is evaluated outside of training."""
        if not self.decay:
            return
        models = self.trainer.evaluated_models
        model = copy.deepcopy(self.trainer.bare_model).float().requires_grad_(False)
        if self._state:
            self.steps = self._state["steps"]
            model.load_state_dict(self._state["model"])
            self._state = {}
        if self.evaluate == "instead":
            models.pop("", None)
        self.model = models[SUFFIX] = model

    def after_step(self) -> None:
        # before the last periodic checkpoint, so that a run that is complete has this file, too
        if not (self.trainer.is_finished and comm.is_main_process()):
            return
        if self.model is None:
            _set_aside(RunFolder(self.trainer.checkpointer.save_dir).final_average)
        else:
            content = {"model": self.model.state_dict(), "iteration": self.trainer.iter}
            self.trainer.checkpointer.write(FINAL_AVERAGE, content)

    def after_train(self) -> None:
        if self.model is not None:
            self._handle.remove()

    def _pair_tensors(self, averages: nn.Module) -> None:
        """Sort the model's tensors into those to average and those to copy, once: walking through it takes time."""
        self._averages, self._weights, self._copies, self._originals = [], [], [], []
        model = self.trainer.bare_model
        for average, weight in zip(averages.parameters(), model.parameters(), strict=True):
            self._averages.append(average)
            self._weights.append(weight)
        for (name, average), buffer in zip(averages.named_buffers(), model.buffers(), strict=True):
            is_averaged = name.rpartition(".")[2] in RUNNING_STATISTICS
            (self._averages if is_averaged else self._copies).append(average)
            (self._weights if is_averaged else self._originals).append(buffer)

    @torch.no_grad()
    def _update(self) -> None:
        self.steps += 1
        weights = [weight.to(average.dtype) for average, weight in zip(self._averages, self._weights, strict=True)]
        left_out = getattr(self.trainer.optimizer, "found_inf", None)
        if left_out is None:
            decay = min(self.decay, self.steps / (9 + self.steps))
            torch._foreach_lerp_(self._averages, weights, 1 - decay)
        else:  # 1 on a device that leaves this step out, see `step_if`: the host doesn't know, and doesn't ask
            self._left_out = self._left_out + left_out
            steps = self.steps - self._left_out
            decay = (steps / (9 + steps)).clamp(max=self.decay)
            changes = torch._foreach_sub(weights, self._averages)
            torch._foreach_mul_(changes, (1 - decay) * (1 - left_out))
            torch._foreach_add_(self._averages, changes)
        if self._copies:
            torch._foreach_copy_(self._copies, self._originals)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.model is None else {"steps": self.steps_taken, "model": self.model.state_dict()}

    @property
    def steps_taken(self) -> int:
        """Steps that are in the average, for which this waits where a device has left some out."""
        return self.steps - int(self._left_out)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = state_dict  # the model to average is complete only when training begins


def _set_aside(average: Path) -> None:
    """Rename the average that an earlier end of the run left: it is not one of the final weights."""
    if average.is_file():
        names = (average.with_name(f"{average.stem}_earlier{number}.pth") for number in itertools.count(1))
        other = next(name for name in names if not name.exists())
        average.rename(other)
        logger.warning("%s is of an earlier end of this run, and is %s now", average.name, other.name)
