"""The training loop: detectron2's TrainerBase with accumulation, mixed precision and losses known in every process."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.layers import FrozenBatchNorm2d
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xray_lazy.data.loaders import TrainLoader
from xray_lazy.data.memory.batch_memory import to_device
from xray_lazy.engine.acceleration import can_leave_out, step_if, try_together
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.determinism import seed_everything
from xray_lazy.engine.evaluation_run import EvaluationRun
from xray_lazy.engine.hook_protocols import ChecksBefore, ComesLast, SavesBeforeEvaluation
from xray_lazy.engine.optimizer_state import guard_state
from xray_lazy.engine.precision import Precision
from xray_lazy.engine.processes.step_limit import step_in_time
from xray_lazy.engine.step_outcome import StepOutcome
from xray_lazy.errors import RunFailure
from xray_lazy.evaluation.inference import InferenceStopped
from xray_lazy.modeling.batch_counts import MicroBatches
from xray_lazy.modeling.step_numbers import StepStorage
from xray_lazy.utils.seeds import seed_of

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
        accumulate: parts that a batch is worked through in, one after the other, for one step of the optimizer.
        max_skipped_steps: steps whose loss or gradient is not finite are left out, up to this number in a run.
        seed: of all that is random in a step, together with iteration and process.

    A step never waits for a GPU to know its losses and gradient, if the optimizer is fused and no loss is scaled: the
    GPU leaves out one that is not finite, and the host reads the numbers after the next one has begun, or where
    somebody asks for them. A wish to stop travels with them.

    Hooks read `last_losses` (means over all processes), `data_time` (seconds), `batch_size` and `iterations_done`, and
    may call `request_stop` and `put_results`. What evaluation looks at is in `evaluated_models`, by the suffix of their
    metrics' names.
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
        accumulate: int = 1,
        max_skipped_steps: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.model, self.optimizer, self.loader, self.precision = model, optimizer, loader, precision
        self.checkpointer, self.writers, self.evaluate = checkpointer, writers, evaluate
        self.device = next(model.parameters()).device
        self.reads_later = self.device.type != "cpu"  # numbers of a step, with the next one
        self.max_norm, self.accumulate, self.seed = max_norm, accumulate, seed
        self._counts_losses = True  # the model divides losses by what it counts in a batch, as far as is known
        self.max_skipped_steps, self.skipped_steps = max_skipped_steps, 0
        self.evaluated_models: dict[str, nn.Module] = {"": checkpointer.model}
        self.named_hooks = dict(hooks)
        super().register_hooks(list(hooks.values()))
        self.data_time = 0.0
        self.last_step: StepOutcome | None = None
        self._is_settled = True  # the last step was judged, and what it asked for was done
        self.stop_reason = ""
        self.has_results = False  # that are to be written after this step
        self.iterations_done = 0
        self.images_seen: int | None = None  # in all iterations, whose batches may have had other sizes
        # labels the parts of a step for a profiler, while there is one
        self.phase: Callable[[str], AbstractContextManager] = nullcontext
        self.run_facts: dict[str, str] = {}  # what the writers know of the run, such as its W&B id
        self._wish_to_stop = ""
        self._wish_to_finish = self._finish_early = self._evaluation_was_cut_short = False
        # the hook that had begun to evaluate when the run that is resumed ended, and what was measured in that step
        self._evaluating_hook = ""
        self._unwritten: list[tuple[str, float, bool]] = []
        evaluate.is_unwanted = lambda: bool(self._wish_to_stop) and not self._wish_to_finish
        guard_state(optimizer)
        checkpointer.add_checkpointable("optimizer", optimizer)
        checkpointer.add_checkpointable("scaler", precision.scaler)
        checkpointer.add_checkpointable("trainer", self)

    @property
    def batch_size(self) -> int:
        """Images per iteration over all processes."""
        return self.loader.total_batch_size

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Add hooks that the config does not name; they come last."""
        hooks = [hook for hook in hooks if hook is not None]
        super().register_hooks(hooks)
        for hook in hooks:
            self.named_hooks[f"{type(hook).__name__}_{len(self.named_hooks)}"] = hook

    def check(self) -> None:
        """Let the hooks raise UserError for what can be known before training; nothing is written by it."""
        for hook in self.named_hooks.values():
            if isinstance(hook, ChecksBefore):
                hook.check()

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train iterations `start_iter` to `max_iter - 1`; hooks' `after_train` is called unless an error ends it.

        A run that ended while it evaluated, or before it could, first does what was left to do after its last step.

        Raises:
            RunFailure: more steps than allowed had a loss or gradient that is not finite; none of them changed weights.
        """
        self.check()
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        self.iterations_done = start_iter
        self.model.train()
        if self.images_seen is None:
            self.images_seen = start_iter * self.batch_size
        self._batches = self.loader.batches(start_iter, self.images_seen)
        with StepStorage(start_iter) as self.storage:
            self.before_train()
            if any(comm.all_gather(self._wish_to_stop)):  # such as a resumed run that had stopped early
                logger.info("no training: %s", self._wish_to_stop)
                self.after_train()
                return
            if self._evaluating_hook:
                self._finish_last_step()
            end = start_iter if self.is_last_step else max_iter
            for self.iter in range(start_iter, end):
                self.before_step()
                with step_in_time("iteration", self.iter):
                    self.run_step()
                self.iterations_done = self.iter + 1
                self.images_seen += self.batch_size
                with self.phase("hooks"):
                    self.after_step()
                if self.stop_reason:
                    break
            if self.stop_reason:
                logger.info("stopped after iteration %d: %s", self.iterations_done - 1, self.stop_reason)
            self.iter = self.iterations_done  # as in detectron2
            del self._batches  # ends the processes that read, which leave files where Python's end ends them
            self.after_train()

    @property
    def last_losses(self) -> dict[str, float]:
        """Losses of the last step, for which this waits where a GPU has not computed them yet."""
        return self.last_step.losses if self.last_step else {}

    @property
    def gradient_norm(self) -> float:
        """Of the last step, as `last_losses`."""
        return self.last_step.gradient_norm if self.last_step else 0.0

    @property
    def bare_model(self) -> nn.Module:
        """The model without its data-parallel wrapper."""
        return self.checkpointer.model

    @property
    def is_last_step(self) -> bool:
        """Whether this run ends after the present step, finished or to be resumed."""
        return self.is_finished or bool(self.stop_reason)

    @property
    def has_trained_all(self) -> bool:
        """Whether no iteration is left; the last ones may still have to be evaluated."""
        return self.iterations_done >= self.max_iter or self._finish_early

    @property
    def is_finished(self) -> bool:
        """Whether training is complete with the iterations that are done."""
        return self.has_trained_all and not self._evaluation_was_cut_short

    @property
    def has_evaluation_left(self) -> bool:
        """Whether a resumed run ended before its last evaluation was done."""
        return bool(self._evaluating_hook)

    def request_stop(self, reason: str, finish: bool = False) -> None:
        """Ask from any one process; all of them end after the next step that they do together.

        Args:
            reason: for the log.
            finish: training is complete, as at its last iteration; else it is to be resumed.
        """
        self._wish_to_stop, self._wish_to_finish = reason, finish

    def save_before(self, hook: HookBase) -> None:
        """Let hooks save what was trained, before `hook` evaluates it: that may take long, or fail.

        A run that is resumed from there begins with the `after_step` of `hook` and those after it.
        """
        if self._evaluating_hook:
            return  # of another hook in this step, or what is resumed: it is saved
        self._settle()  # a step that is not finite is told before it is saved
        self._evaluating_hook = next(name for name, one in self.named_hooks.items() if one is hook)
        for one in self.named_hooks.values():
            if isinstance(one, SavesBeforeEvaluation):
                one.save_before_evaluation()

    def after_step(self) -> None:
        self._call_after_step(list(self.named_hooks))

    def _finish_last_step(self) -> None:
        """What the run that is resumed had still to do after its last step."""
        names = list(self.named_hooks)
        start = names.index(self._evaluating_hook) if self._evaluating_hook in names else len(names)
        self.iter, self.storage.iter = self.start_iter - 1, self.start_iter - 1
        for name, value, is_smoothed in self._unwritten:
            self.storage.put_scalar(name, value, smoothing_hint=is_smoothed)
        logger.info("iteration %d was not evaluated to the end: once more", self.iter)
        self._call_after_step(names[start:])

    def _call_after_step(self, names: list[str]) -> None:
        saves = [name for name in names if isinstance(self.named_hooks[name], SavesBeforeEvaluation)]
        for name in names:
            if name == next(iter(saves[-1:]), None):
                self._evaluating_hook = ""  # what is saved now is evaluated
            try:
                self.named_hooks[name].after_step()
            except InferenceStopped:
                self.stop_reason = self._wish_to_stop or "another process was asked to"
                self._evaluation_was_cut_short = True
                # writers and checkpoint: what is written now, a resumed run needn't write
                for last in names[names.index(name) :]:
                    if isinstance(self.named_hooks[last], ComesLast):
                        self.named_hooks[last].after_step()
                return
        self._evaluating_hook = ""

    def _measured_in_this_step(self) -> list[tuple[str, float, bool]]:
        """Names, values and smoothing hints of what the writers have not yet got."""
        if self._evaluation_was_cut_short:
            return []
        hints = self.storage.smoothing_hints()
        latest = self.storage.latest().items()
        return [(name, float(value), hints[name]) for name, (value, put_at) in latest if put_at == self.iter]

    def put_results(self, results: Mapping[str, float]) -> None:
        """Put what is measured now and then, such as an evaluation's metrics: all writers write after this step."""
        self.storage.put_scalars(**results, smoothing_hint=False)
        self.has_results = True

    def run_step(self) -> None:
        """One step: forward, backward, and the optimizer's step where loss and gradient are finite."""
        self._seed_step()
        start = time.perf_counter()
        with self.phase("data"):
            batch = to_device(next(self._batches), self.device)
        self.data_time = time.perf_counter() - start
        if self.iter == self.start_iter:
            self._try_speed_ups(batch)
        self.optimizer.zero_grad(set_to_none=True)
        is_left_to_device = self._is_left_to_device()
        before = self._changing_buffers(clone=True) if self.max_skipped_steps or is_left_to_device else []
        losses = self._forward_and_backward(batch)
        self.precision.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self._parameters() if p.grad is not None])
        self._settle()  # the step before, which by now is done
        self.storage.settle(before=self.iter)
        wishes = bool(self._wish_to_stop), self._wish_to_finish
        # float16's loss scaling looks after gradients itself: it leaves out the step and lowers the scale
        step = StepOutcome(self.iter, losses, norm, batch, wishes, only_loss=self.precision.scaler.is_enabled())
        if comm.is_main_process():
            self.storage.put_later(step.to_log())
        self.last_step, self._is_settled = step, False
        is_wanted = is_left_to_device or self._settle()
        if is_left_to_device or not is_wanted:
            self._restore(before, step.is_finite)  # before hooks of the optimizer's step look at them
        if is_wanted:
            with self.phase("optimizer"):
                self._step(norm, step.is_finite if is_left_to_device else None)
        else:
            self.precision.scaler.update()  # it has unscaled, and would refuse to do so again
        if self.iter + 1 >= self.max_iter or self.stop_reason:
            self._settle()  # there is no next step to do it
        self.storage.send()

    def _forward_and_backward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        """Gradients and losses of a batch, whose parts weigh as in the whole; the losses with `total_loss`."""
        micro_batches = MicroBatches(batch, max(len(batch) // self.accumulate, 1))
        if self.accumulate > 1 and self._counts_losses:
            self._counts_losses = self._count(micro_batches)
        parts = []
        for number in range(self.accumulate):
            if self.accumulate > 1:
                self._seed_step(number)
            with self._without_reduction() if number + 1 < self.accumulate else nullcontext():
                with self.phase("forward"), micro_batches.part(number) as part, self.precision.autocast():
                    losses = self.model(part)
                total: Any = sum(losses.values())
                with self.phase("backward"):
                    self.precision.scaler.scale(total if self.accumulate == 1 else total / self.accumulate).backward()
            parts.append({**losses, "total_loss": total})
        if len(parts) == 1:
            return parts[0]
        return {name: torch.stack([part[name].detach().float() for part in parts]).mean() for name in parts[0]}

    @torch.no_grad()
    def _count(self, micro_batches: MicroBatches) -> bool:
        """Run the model for what its losses are divided by, see `MicroBatches.count`; nothing else comes of it."""

        def run(number: int) -> None:
            self._seed_step(number)
            self.bare_model(micro_batches.parts[number])

        with self.phase("forward"), self._leaving_no_trace():
            return micro_batches.count(run)

    def _try_speed_ups(self, batch: list[dict]) -> None:
        """Before the first step, agree with the other processes on what the model can be sped up with."""
        part = batch[: max(len(batch) // self.accumulate, 1)]
        with self._leaving_no_trace(), self._compiling_in_buckets():
            try_together(self.bare_model, lambda: self.bare_model(part))
        self._seed_step()

    @contextmanager
    def _leaving_no_trace(self) -> Iterator[None]:
        """Around forward passes beside a step's own: log and buffers stay, random states are the caller's."""
        before = self._changing_buffers(clone=True)
        with StepStorage(self.iter), self.precision.autocast():
            yield
        with torch.no_grad():
            for buffer, value in zip(self._changing_buffers(), before, strict=True):
                buffer.copy_(value)

    def _without_reduction(self) -> AbstractContextManager:
        """Gradients of the parts before the last one are not worth a transfer between processes."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def _compiling_in_buckets(self) -> AbstractContextManager:
        """What is compiled inside gives its gradients bucket by bucket: their transfer then overlaps backward."""
        return self.model._inside_ddp_forward() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    def _is_left_to_device(self) -> bool:
        """Whether the device leaves out a step that is not finite, and the host looks at its numbers one step later."""
        # SGD's first step makes its momentum, which a step that is left out would leave as it is in fresh memory
        has_states = len(self.optimizer.state) > 0
        return (
            self.reads_later and has_states and can_leave_out(self.optimizer) and not self.precision.scaler.is_enabled()
        )

    def _step(self, norm: torch.Tensor, is_finite: torch.Tensor | None) -> None:
        if self.max_norm is not None:
            nn.utils.clip_grads_with_norm_(list(self._parameters()), self.max_norm, norm)
        if is_finite is not None:
            step_if(self.optimizer, is_finite)
            return
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()

    def _changing_buffers(self, clone: bool = False) -> list[torch.Tensor]:
        """Those that a forward pass may change, such as batch norm's statistics."""
        modules = (m for m in self.model.modules() if m.training and not isinstance(m, FrozenBatchNorm2d))
        buffers = [buffer for module in modules for buffer in module.buffers(recurse=False)]
        return [buffer.clone() for buffer in buffers] if clone else buffers

    @torch.no_grad()
    def _restore(self, before: list[torch.Tensor], is_finite: torch.Tensor) -> None:
        """What a forward pass has changed, unless its step is finite."""
        for buffer, value in zip(self._changing_buffers(), before, strict=True):
            buffer.copy_(buffer.where(is_finite, value))

    def _seed_step(self, part: int = 0) -> None:
        """Randomness inside the model depends on step and part alone, so that a resumed run repeats it."""
        seed_everything(seed_of(self.seed, self.iter, comm.get_rank(), *([part] if part else [])))

    def _settle(self) -> bool:
        """Do what the last step's numbers ask for, if that is not done; whether they are finite. All processes alike.

        Raises:
            RunFailure: they are not, more often than may be.
        """
        step = self.last_step
        if step is None or self._is_settled:
            return True
        self._is_settled = True
        wish_to_stop, wish_to_finish = step.wishes
        if wish_to_stop:
            self.stop_reason = self._wish_to_stop or "another process was asked to"
            self._finish_early = wish_to_finish
        if step.was_finite:
            return True
        self.skipped_steps += 1
        if self.skipped_steps > self.max_skipped_steps:
            self._raise_not_finite(step)
        number = f"{self.skipped_steps} of at most {self.max_skipped_steps}"
        logger.warning("skipped iteration %d, whose loss or gradient is not finite (%s)", step.iteration, number)
        self.storage.put_scalar("skipped_steps", self.skipped_steps, smoothing_hint=False)
        return False

    def _raise_not_finite(self, step: StepOutcome) -> None:
        bad = step.not_finite_here()
        files = step.files if bad or math.isfinite(step.losses["total_loss"]) else []
        gathered = comm.all_gather((bad, files))
        names = sorted({name for bad, _ in gathered for name in bad} - {"total_loss"})
        images = ", ".join(file for _, files in gathered for file in files)
        what = "the loss" if names else "the gradient"
        which = f" ({', '.join(names)})" if names else ""
        if self.max_skipped_steps:
            what = f"after {self.max_skipped_steps} skipped steps, {what}"
        saved = self.checkpointer.get_checkpoint_file() if self.checkpointer.has_checkpoint() else ""
        raise RunFailure(
            f"{what} is not finite at iteration {step.iteration}{which} with the images {images}",
            "lower optimizer.lr, lengthen the warm-up or set train.clip_gradients.enabled=True, and look at these "
            + (f"images' annotations; the last good checkpoint is {saved}" if saved else "images' annotations"),
        )

    def state_dict(self) -> dict[str, Any]:
        states = {name: hook.state_dict() for name, hook in self.named_hooks.items()}
        states = {name: state for name, state in states.items() if state}
        is_skipped = not (self._is_settled or self.last_step is None or self.last_step.was_finite)
        counts = {"iteration": self.iter, "images_seen": self.images_seen}
        counts["skipped_steps"] = self.skipped_steps + is_skipped
        if self._evaluating_hook:
            counts |= {"evaluating_hook": self._evaluating_hook, "finish_early": self._finish_early}
            counts["unwritten"] = self._measured_in_this_step()
        return {**counts, "run_facts": self.run_facts, "hooks": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.iter, self.skipped_steps = state_dict["iteration"], state_dict.get("skipped_steps", 0)
        self.images_seen = state_dict.get("images_seen")
        self._evaluating_hook = state_dict.get("evaluating_hook", "")
        self._unwritten = state_dict.get("unwritten", [])
        self._finish_early = state_dict.get("finish_early", False)
        self.run_facts = state_dict.get("run_facts", {})
        for name, state in state_dict["hooks"].items():
            if name in self.named_hooks:
                self.named_hooks[name].load_state_dict(state)
            else:
                logger.warning("the checkpoint has the state of hook %s, which this config has not", name)
