"""A training as it was at one of its checkpoints, for evaluation and for hooks that judge metrics."""

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.engine.train_loop import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils.events import EventStorage, EventWriter
from omegaconf import DictConfig
from torch import nn

from xray_lazy.engine.checkpoint import Checkpointer, load_trained_weights
from xray_lazy.engine.checkpoint_evaluation.queue import FileVersion
from xray_lazy.engine.determinism import seed_everything
from xray_lazy.engine.evaluation_run import EvaluationRun
from xray_lazy.engine.experiment import build_model
from xray_lazy.engine.hook_order import build_hooks
from xray_lazy.engine.hook_protocols import JoinsEvaluation, judges_metrics
from xray_lazy.engine.metric_names import possible_names
from xray_lazy.engine.precision import Precision
from xray_lazy.errors import UserError
from xray_lazy.run_folder import FINAL


class SavedTraining:
    """What hooks see of a trainer, with the weights of a checkpoint in place of those in training.

    Hooks that are `JoinsEvaluation` or `JudgesMetrics` take part, no others.

    Args:
        cfg: of the run.
        device: to evaluate on.

    Attributes:
        writers: for hooks that show what they observe.
    """

    def __init__(self, cfg: DictConfig, device: str):
        self._cfg = cfg
        self.bare_model = build_model(cfg, device)
        self.checkpointer = Checkpointer(self.bare_model, cfg.train.output_dir)
        precision = Precision(device, **cfg.train.amp)
        self.evaluate = EvaluationRun(cfg.dataloader, cfg.train.output_dir, precision.evaluation_autocast)
        self.evaluated_models: dict[str, nn.Module] = {"": self.bare_model}
        self.named_hooks: dict[str, HookBase] = {}
        self.writers: dict[str, EventWriter] = {}
        self.storage = EventStorage()
        self.iter, self.iterations_done, self.is_finished = -1, 0, False
        self.stop_reason = ""
        self._loaded: FileVersion | None = None

    def load(self, path: Path) -> None:
        """Take weights, averaged ones too, and iteration from a checkpoint; nothing to do where it is loaded.

        Raises:
            UserError: it can't be read, or is of another model.
            FileNotFoundError: it is gone.
        """
        version = FileVersion.of(path)
        if version == self._loaded:
            return
        self._loaded = None
        content = load_trained_weights(self.bare_model, str(path))
        if "iteration" not in content:
            raise UserError(f"{path} is no checkpoint of a run: it has no iteration", "")
        self.iter = content["iteration"]
        self.iterations_done, self.is_finished = self.iter + 1, path.stem == FINAL
        self.evaluated_models = {"": self.bare_model}
        self.evaluate.observers.clear()
        self.evaluate.observers_of_all.clear()
        states = content.get("trainer", {}).get("hooks", {})
        self.named_hooks = {n: hook for n, hook in self._new_hooks().items() if isinstance(hook, JoinsEvaluation)}
        for name, hook in self.named_hooks.items():
            if name in states:
                hook.load_state_dict(states[name])
            hook.join_evaluation()
        self._loaded = version

    def metrics(self) -> dict[str, float]:
        """Evaluate what is loaded, as training does, and keep the results in the run's evaluation folder."""
        metrics: dict[str, float] = {}
        with EventStorage(self.iter) as self.storage:
            for suffix, model in self.evaluated_models.items():
                seed_everything(self._cfg.train.seed)
                results = self.evaluate(model, self.iter, suffix)
                metrics |= {name: float(value) for name, value in flatten_results_dict(results).items()}
        return metrics

    def judge(self, metrics: Mapping[str, float], states: Mapping[str, Any]) -> dict[str, Any]:
        """Let hooks judge the metrics of the loaded weights; returns their states. `stop_reason` has their wish.

        Args:
            metrics: also in `storage`. Hooks for others, such as losses, are not asked: training has these.
            states: of the hooks at the checkpoint before this one, by name.
        """
        self.stop_reason = ""
        hooks = {name: hook for name, hook in self._new_hooks().items() if judges_metrics(hook)}
        self.named_hooks = hooks
        for name, hook in hooks.items():
            if states.get(name):
                hook.load_state_dict(states[name])
            hook.before_train()
            if any(metric in metrics for metric in possible_names(hook.metric, self.evaluated_models)):
                hook.after_step()
            hook.before_step()
        return {name: hook.state_dict() for name, hook in hooks.items()}

    def request_stop(self, reason: str, finish: bool = False) -> None:
        """Called by hooks that want training to end."""
        self.stop_reason = reason

    def _new_hooks(self) -> dict[str, HookBase]:
        hooks = build_hooks(self._cfg)
        for hook in hooks.values():
            hook.trainer = weakref.proxy(self)
        return hooks
