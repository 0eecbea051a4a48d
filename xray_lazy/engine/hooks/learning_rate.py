"""Set the learning rate of every group before each step."""

from detectron2.engine.train_loop import HookBase
from fvcore.common.param_scheduler import ParamScheduler


class LearningRate(HookBase):
    """Multiply each group's initial learning rate with a schedule over the progress of training.

    Args:
        schedule: from progress 0..1 to the multiplier.

    The rate is a function of the iteration: nothing of it needs to be in a checkpoint.
    """

    def __init__(self, schedule: ParamScheduler):
        self.schedule = schedule

    def before_train(self) -> None:
        for group in self.trainer.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def before_step(self) -> None:
        multiplier = self.schedule(self.trainer.iter / self.trainer.max_iter)
        groups = self.trainer.optimizer.param_groups
        for group in groups:
            group["lr"] = group["initial_lr"] * multiplier
        # the rate of most parameters stands for all: groups differ by constant factors
        largest = max(groups, key=lambda group: sum(p.numel() for p in group["params"]))
        self.trainer.storage.put_scalar("lr", largest["lr"], smoothing_hint=False)
