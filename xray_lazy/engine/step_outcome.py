"""What the host has to know of a training step: losses, gradient norm, whether to stop."""

import math
from collections.abc import Mapping, Sequence

import torch
from detectron2.utils import comm

from xray_lazy.modeling.step_numbers import NumbersOnTheWay


class StepOutcome:
    """Numbers of one step, means over all processes. `is_finite` is on the device; the others wait for that.

    Args:
        iteration: of the step.
        losses: of this process, `total_loss` last.
        norm: of the gradient.
        batch: of this process.
        wishes: of this process to stop, and that training is then complete; one of any process counts.
        only_loss: the step is finite even if the norm is not.

    All processes must make them in the same order.
    """

    def __init__(
        self,
        iteration: int,
        losses: Mapping[str, torch.Tensor],
        norm: torch.Tensor,
        batch: Sequence[dict],
        wishes: tuple[bool, bool],
        only_loss: bool,
    ):
        self.iteration, self.files = iteration, [str(sample.get("file_name", "?")) for sample in batch]
        self._names = list(losses)
        own = torch.stack([*(loss.detach().float() for loss in losses.values()), norm.detach().float()])
        wanted = torch.tensor(wishes, dtype=own.dtype).to(own.device, non_blocking=True)
        numbers = torch.cat([own, wanted])
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(numbers)
            numbers = numbers / comm.get_world_size()
        judged = numbers[len(losses) - 1 : len(losses) + (not only_loss)]
        self.is_finite = judged.isfinite().all()
        self._shared = numbers[: len(own)]
        self._own = NumbersOnTheWay(own)
        self._numbers = NumbersOnTheWay(torch.cat([numbers, self.is_finite[None].float()]))

    def to_log(self) -> dict[str, torch.Tensor]:
        """Losses and gradient norm on the device; NaN if the step is not finite."""
        logged = self._shared.where(self.is_finite, math.nan)
        return dict(zip([*self._names, "gradient_norm"], logged, strict=True))

    @property
    def losses(self) -> dict[str, float]:
        return dict(zip(self._names, self._numbers.tolist(), strict=False))

    @property
    def gradient_norm(self) -> float:
        return self._numbers.tolist()[len(self._names)]

    @property
    def wishes(self) -> tuple[bool, bool]:
        return self._numbers.tolist()[-3] > 0, self._numbers.tolist()[-2] > 0

    @property
    def was_finite(self) -> bool:
        """`is_finite`, for the host."""
        return self._numbers.tolist()[-1] > 0

    def not_finite_here(self) -> list[str]:
        """Names of this process's own losses that are not finite."""
        return [name for name, loss in zip(self._names, self._own.tolist(), strict=False) if not math.isfinite(loss)]
