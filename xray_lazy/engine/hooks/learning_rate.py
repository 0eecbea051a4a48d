"""Set the learning rate of every group before each step."""

from detectron2.engine.train_loop import HookBase
from fvcore.common.param_scheduler import ParamScheduler


class LearningRate(HookBase):
    """Multiply each group's initial learning rate with a schedule over the progress of training.

    Puts `lr`, that of the parameters without a rate of their own, and `lr/<part>` for the parts that have one.

    Args:
        schedule: from progress 0..1 to the multiplier.

    The rate is a function of the iteration: nothing of it needs to be in a checkpoint.
    """

    def __init__(self, schedule: ParamScheduler):
        self.schedule = schedule

    def before_train(self) -> None:
        groups = self.trainer.optimizer.param_groups
        for group in groups:
            group["initial_lr"] = group["lr"]
        # where every part has a rate of its own, that of most parameters is shown
        self._main = max(groups, key=lambda group: (not group.get("name"), sum(p.numel() for p in group["params"])))

    def before_step(self) -> None:
        multiplier = self.schedule(self.trainer.iter / self.trainer.max_iter)
        groups = self.trainer.optimizer.param_groups
        for group in groups:
            group["lr"] = group["initial_lr"] * multiplier
        # groups of a part differ in weight decay only
        rates = {f"lr/{group['name']}": group["lr"] for group in groups if group.get("name")}
        self.trainer.storage.put_scalars(lr=self._main["lr"], **rates, smoothing_hint=False)
