"""Find the operation that makes a gradient NaN."""

import torch
from detectron2.engine.train_loop import HookBase


class DetectAnomaly(HookBase):
    """Let autograd stop at the first NaN of a backward pass and show which forward operation it belongs to.

    Training is several times slower. With float16's loss scaling, overflows that scaling itself meets look like faults:
    look for anomalies in float32 or bfloat16.
    """

    def before_train(self) -> None:
        self._before = torch.is_anomaly_enabled()
        torch.autograd.set_detect_anomaly(True)

    def after_train(self) -> None:
        torch.autograd.set_detect_anomaly(self._before)
