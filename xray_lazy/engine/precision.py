"""Mixed precision: which type the forward pass computes in, and the loss scaling that float16 needs."""

import logging
from contextlib import AbstractContextManager

import torch

from xray_lazy.errors import UserError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
MATMUL_PRECISIONS = ("highest", "high", "medium")

logger = logging.getLogger(__name__)


def set_float32_matmul(precision: str) -> None:
    """How exact products of float32 matrices are in this process: "highest", "high" or "medium", as torch has it.

    Raises:
        UserError: it is none of these.
    """
    if precision not in MATMUL_PRECISIONS:
        raise UserError(f"train.float32_matmul is {precision!r}", f"it may be {' or '.join(MATMUL_PRECISIONS)}")
    torch.set_float32_matmul_precision(precision)


class Precision:
    """Autocast and gradient scaling of a run.

    Args:
        device: "cuda" or "cpu".
        enabled: False computes in float32.
        dtype: "bfloat16" or "float16"; the latter scales the loss.
        evaluation: evaluate in half precision, too.

    Raises:
        UserError: `dtype` is another.
    """

    def __init__(self, device: str, enabled: bool = False, dtype: str = "bfloat16", evaluation: bool = False):
        if dtype not in DTYPES:
            raise UserError(f"train.amp.dtype is {dtype!r}", f"it may be {' or '.join(DTYPES)}")
        self.device, self.enabled, self.dtype = device, enabled, DTYPES[dtype]
        if enabled and device == "cuda" and dtype == "bfloat16" and not torch.cuda.is_bf16_supported(False):
            logger.warning("this GPU emulates bfloat16, which is slow: train.amp.dtype=float16 is for such GPUs")
        self.evaluation = evaluation
        self.scaler = _LossScaler(device, enabled=enabled and dtype == "float16")

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass in training."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.enabled)

    def evaluation_autocast(self) -> AbstractContextManager:
        """The context of an evaluation."""
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.evaluation)


class _LossScaler(torch.amp.GradScaler):
    """Begins anew in a run that is resumed from one that scaled no loss."""

    def load_state_dict(self, state_dict: dict) -> None:
        if state_dict:
            super().load_state_dict(state_dict)
