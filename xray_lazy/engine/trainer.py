"""The training loop: detectron2's TrainerBase with mixed precision, clipping, and losses known in every process."""

import logging
import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter
from torch import nn

from xray_lazy.data.loaders import TrainLoader
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.evaluation_run import EvaluationRun
from xray_lazy.engine.precision import Precision
from xray_lazy.errors import RunFailure

logger = logging.getLogger(__name__)


class Trainer(TrainerBase):
    """Train a model whose training output is a dict of losses.

    Args:
        model: as it is, or wrapped for data-parallel training.
        optimizer: over the model's parameters.
        loader: gives the batches from an iteration on.
        precision: mixed precision or not.
        checkpointer: saves model, optimizer, this trainer and its hooks.
        hooks: by name, called in this order; their states are kept under these names.
        writers: on the first process; empty on others.
        evaluate: `evaluate(model, iteration)` returns the metrics by task on the first process; all call it.
        max_norm: clip the L2 norm of all gradients together at this; None doesn't clip.
        seed: of all that is random in a step, together with iteration and process.

    Hooks read `last_losses` (means over all processes), `data_time` (seconds) and `batch_size`, and may call
    `request_stop`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: TrainLoader,
        precision: Precision,
        checkpointer: Checkpointer,
        hooks: Mapping[str, HookBase],
        writers: Mapping[str, EventWriter],
        evaluate: EvaluationRun,
        max_norm: float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.model, self.optimizer, self.loader, self.precision = model, optimizer, loader, precision
        self.checkpointer, self.writers, self.evaluate = checkpointer, writers, evaluate
        self.max_norm, self.seed = max_norm, seed
        self.named_hooks = dict(hooks)
        self.register_hooks(list(hooks.values()))
        self.data_time = 0.0
        self.last_losses: dict[str, float] = {}
        self.stop_reason = ""
        self._wish_to_stop = ""
        checkpointer.add_checkpointable("optimizer", optimizer)
        checkpointer.add_checkpointable("scaler", precision.scaler)
        checkpointer.add_checkpointable("trainer", self)

    @property
    def batch_size(self) -> int:
        """Pictures per iteration over all processes."""
        return self.loader.total_batch_size

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train iterations `start_iter` to `max_iter - 1`; hooks' `after_train` is called unless an error ends it.

        Raises:
            RunFailure: the loss is not finite; no weight has been changed by that step.
        """
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        self.model.train()
        self._batches = self.loader.batches(start_iter)
        with EventStorage(start_iter) as self.storage:
            self.before_train()
            for self.iter in range(start_iter, max_iter):
                self.before_step()
                self.run_step()
                self.after_step()
                if self.stop_reason:
                    logger.info("stopped after iteration %d: %s", self.iter, self.stop_reason)
                    break
            self.iter += 1  # as in detectron2: the number of iterations done
            self.after_train()

    @property
    def bare_model(self) -> nn.Module:
        """The model without its data-parallel wrapper."""
        return self.checkpointer.model

    @property
    def is_last_step(self) -> bool:
        """Whether training ends after the present step."""
        return self.iter + 1 >= self.max_iter or bool(self.stop_reason)

    def request_stop(self, reason: str) -> None:
        """Ask from any one process; all of them end after the next step that they do together."""
        self._wish_to_stop = reason

    def run_step(self) -> None:
        """One step: forward, backward, and the optimizer's step unless a loss is not finite."""
        self._seed_step()
        start = time.perf_counter()
        batch = next(self._batches)
        self.data_time = time.perf_counter() - start
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            losses = self.model(batch)
        total = sum(losses.values())
        self.precision.scaler.scale(total).backward()
        self._share_losses({**losses, "total_loss": total}, batch)
        if self.max_norm is not None:
            self.precision.scaler.unscale_(self.optimizer)
            self._clip()
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()

    def _seed_step(self) -> None:
        """Randomness inside the model depends on the step alone, so that a resumed run repeats it."""
        seed = hash((self.seed, self.iter, comm.get_rank())) % 2**32
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def _clip(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.max_norm)
        if comm.is_main_process():
            self.storage.put_scalar("gradient_norm", norm.item())

    @torch.no_grad()
    def _share_losses(self, losses: dict[str, torch.Tensor], batch: list[dict]) -> None:
        """Average the losses over processes; one transfer from the device for all of them."""
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        # the wish to stop travels with the losses
        values = torch.cat([values, values.new_tensor([float(bool(self._wish_to_stop))])])
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(values)
            values /= comm.get_world_size()
        *means, wish_to_stop = values.tolist()
        self.last_losses = dict(zip(losses, means, strict=True))
        if not np.isfinite(self.last_losses["total_loss"]):
            self._raise_not_finite(losses, batch)
        if wish_to_stop:
            self.stop_reason = self._wish_to_stop or "another process was asked to"
        if comm.is_main_process():
            self.storage.put_scalars(**self.last_losses)

    def _raise_not_finite(self, losses: dict[str, torch.Tensor], batch: list[dict]) -> None:
        bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
        files = [sample["file_name"] for sample in batch] if bad else []
        gathered = comm.all_gather((bad, files))
        names = sorted({name for bad, _ in gathered for name in bad} - {"total_loss"})
        pictures = ", ".join(file for _, files in gathered for file in files)
        saved = self.checkpointer.get_checkpoint_file() if self.checkpointer.has_checkpoint() else ""
        raise RunFailure(
            f"the loss is not finite at iteration {self.iter} ({', '.join(names) or 'total_loss'}) "
            f"with the pictures {pictures}",
            "lower optimizer.lr, lengthen the warm-up or set train.clip_gradients.enabled=True, and look at these "
            + (f"pictures' annotations; the last good checkpoint is {saved}" if saved else "pictures' annotations"),
        )

    def state_dict(self) -> dict[str, Any]:
        states = {name: hook.state_dict() for name, hook in self.named_hooks.items()}
        return {"iteration": self.iter, "hooks": {name: state for name, state in states.items() if state}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        for name, state in state_dict["hooks"].items():
            if name in self.named_hooks:
                self.named_hooks[name].load_state_dict(state)
            else:
                logger.warning("the checkpoint has the state of hook %s, which this config has not", name)
