"""End training when a metric gets no better."""

import logging
import math
from collections.abc import Iterable

from detectron2.engine.train_loop import HookBase
from detectron2.utils import comm

from xray_lazy.config.suggest import nearest
from xray_lazy.engine.checkpoint_evaluation.queue import CheckpointQueue
from xray_lazy.engine.metric_names import check_name, key_of, possible_names, warn_of_no_number, warn_of_worst
from xray_lazy.errors import UserError
from xray_lazy.modeling.step_numbers import latest_with
from xray_lazy.utils.limits import Limits

logger = logging.getLogger(__name__)


class EarlyStopping(HookBase):
    """Complete training when a metric was not better than its best for `patience` evaluations in a row.

    Args:
        metric: as it is in the event storage, e.g. `bbox/AP` or `val_loss/total_loss`.
        mode: "max" or "min": what is better.
        patience: evaluations, which are all iterations that give the metric a value; None switches it off.
        min_delta: a value is better only if it is so by more than this, in the metric's unit.
        warmup_iters: evaluations before this iteration are compared, but don't count against the patience.

    The step after the evaluation is the last one; evaluation, checkpoint and writers follow it as at the end of any
    run. The count is in the checkpoints: a resumed run goes on counting, and one that had ended trains no more unless
    `patience` is raised. By another metric or mode it counts anew. A value that is not finite is no improvement.

    It goes after the hooks that put the metric and before the checkpoint.
    """

    judges_metrics = True  # of checkpoints that are evaluated beside training, too

    def __init__(
        self, metric: str, mode: str = "max", patience: int | None = None, min_delta: float = 0.0, warmup_iters: int = 0
    ):
        if mode not in ("max", "min"):
            raise UserError(f"the mode of early stopping is {mode!r}", "set hooks.early_stopping.mode to max or min")
        warn_of_worst(metric, mode, "hooks.early_stopping")
        if patience is not None and (complaint := Limits(least=1, whole=True).complaint(patience)):
            too_soon = f"a patience of {patience} evaluations stops before the first one"
            raise UserError(
                too_soon if patience < 1 else f"a patience of {patience} evaluations can't be: {complaint}",
                "set hooks.early_stopping.patience to 1, 2 or more, or to null for no early stopping",
            )
        self.metric, self.mode, self.patience = metric, mode, patience
        self.min_delta, self.warmup_iters = min_delta, warmup_iters
        self.best_value: float | None = None
        self.best_iteration = -1
        self.waited = 0  # evaluations since the best one
        self.has_ended = False
        self._has_warned = False

    def check(self) -> None:
        """Called before anything is written."""
        if self.patience is not None:
            check_name(self.metric, f"{key_of(self)}.metric", self.trainer)

    def before_train(self) -> None:
        if self.has_ended and self._is_exhausted():
            self.trainer.request_stop(self._reason(), finish=True)

    def before_step(self) -> None:
        # not when the count is full: a run that is killed before this step stops at the same one when resumed
        if self._is_exhausted():
            self.trainer.request_stop(self._reason(), finish=True)

    def after_step(self) -> None:
        trainer = self.trainer
        if self.patience is None or not comm.is_main_process():
            return
        names = possible_names(self.metric, trainer.evaluated_models)
        latest = latest_with(trainer.storage, names)
        values = {name: float(value) for name, (value, put_at) in latest.items() if put_at == trainer.iter}
        name = next((name for name in names if name in values), None)
        if name is None:
            self._warn_of_name(values)
        elif not self._is_exhausted():
            if not math.isfinite(values[name]) and self.best_value is None and not self._has_warned:
                self._has_warned = True
                warn_of_no_number(name, key_of(self), "for early stopping it is no improvement", values)
            self._count(values[name])
        self.has_ended = trainer.is_finished and self._is_exhausted()

    def _count(self, value: float) -> None:
        trainer, sign = self.trainer, {"max": 1, "min": -1}[self.mode]
        best = self.best_value
        if math.isfinite(value) and (best is None or sign * (value - best) > self.min_delta):
            self.best_value, self.best_iteration, self.waited = value, trainer.iter, 0
        elif trainer.iterations_done >= self.warmup_iters:
            self.waited += 1

    def _is_exhausted(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def _reason(self) -> str:
        best = "finite" if self.best_value is None else f"better than {self.best_value:.4g}"
        where = "" if self.best_value is None else f" of iteration {self.best_iteration}"
        return (
            f"early stopping, {self.metric} was not {best}{where} in {self.waited} evaluation{'s' * (self.waited > 1)}"
        )

    def _warn_of_name(self, present: Iterable[str]) -> None:
        """Once, after the first evaluation or, without any, at the end."""
        is_known = self._has_warned or self.waited > 0 or self.best_value is not None
        if is_known or not (self.trainer.is_finished or any(name.endswith("/AP") for name in present)):
            return
        if CheckpointQueue(self.trainer.checkpointer.save_dir).is_open():
            return  # the metric comes from there
        self._has_warned = True
        names = ", ".join(nearest(self.metric, present, count=5) or sorted(present))
        logger.warning("early stopping waits for %s, which was not logged so far; there is %s", self.metric, names)

    def state_dict(self) -> dict:
        names = ("metric", "mode", "best_value", "best_iteration", "waited", "has_ended")
        return {name: getattr(self, name) for name in names} if self.patience is not None else {}

    def load_state_dict(self, state_dict: dict) -> None:
        counted = dict(state_dict)
        by, mode = counted.pop("metric", self.metric), counted.pop("mode", self.mode)
        if (by, mode) != (self.metric, self.mode):
            if self.patience is not None:
                now = f"{self.metric} ({self.mode})"
                logger.warning("early stopping went by %s (%s) so far; it counts anew, by %s", by, mode, now)
            return
        for name, value in counted.items():
            setattr(self, name, value)
