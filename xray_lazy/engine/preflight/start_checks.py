"""What hooks and evaluators refuse at a start, asked before anything waits for it."""

import copy
from collections.abc import Iterator, Mapping
from types import SimpleNamespace

from detectron2.engine.train_loop import HookBase
from omegaconf import DictConfig, ListConfig

from xray_lazy.config import Fault
from xray_lazy.engine.epochs import put_iterations
from xray_lazy.engine.evaluation_run import EvaluationRun
from xray_lazy.engine.hook_order import build_hooks
from xray_lazy.engine.hook_protocols import ChecksBefore, JudgesMetrics
from xray_lazy.engine.metric_names import OWN_PACKAGES, check_name
from xray_lazy.engine.preflight.trial_build import target_class, without_log
from xray_lazy.engine.preflight.unbuildable import fault_of_build
from xray_lazy.errors import UserError
from xray_lazy.evaluation.protocols import NamesMetrics

EVALUATOR = "dataloader.evaluator"


def check_start(cfg: DictConfig, training: bool = True) -> Iterator[Fault]:
    """What evaluators say to their arguments and data, and hooks to the metrics and images that they are to find.

    Evaluators that don't name their metrics, and hooks that are not ours, are left to the start: they may write files,
    or ask for more than the data.

    Args:
        cfg: a config whose data sets can be loaded; they are not read again.
        training: False asks the evaluators alone.
    """
    if not {"test", "evaluator"} <= set(cfg.dataloader):
        return
    run = EvaluationRun(cfg.dataloader, cfg.train.output_dir)
    names_metrics = all(map(_names_metrics, _nodes(cfg.dataloader.evaluator)))
    if names_metrics:
        try:
            for one in run.sets:
                _ = one.evaluators
        except Exception as error:  # whatever an evaluator says of its arguments
            yield fault_of_build(EVALUATOR, cfg.dataloader.evaluator, error)
            return
    if not training:
        return
    hooks, told = _hooks_of(cfg), set()
    for name, hook in hooks.items():
        if isinstance(hook, ChecksBefore) and (names_metrics or not isinstance(hook, JudgesMetrics)):
            for fault in _refused(f"hooks.{name}", hook, hooks, run):
                if fault.message not in told:  # two hooks may refuse one another
                    yield fault
                told.add(fault.message)


def check_metric(cfg: DictConfig, metric: str, key: str) -> Iterator[Fault]:
    """A metric that no evaluation of a training gives, or none with a value, for what reads it beside the hooks.

    Args:
        cfg: as `check_start` takes it, which found no fault.
        metric: as it is in the event storage.
        key: that names it.
    """
    if {"test", "evaluator"} <= set(cfg.dataloader) and all(map(_names_metrics, _nodes(cfg.dataloader.evaluator))):
        run = EvaluationRun(cfg.dataloader, cfg.train.output_dir)
        try:
            check_name(metric, key, SimpleNamespace(named_hooks=_hooks_of(cfg), evaluate=run))
        except UserError as error:
            yield Fault(key, error.message.removeprefix(f"{key}: "), error.fix)


def _hooks_of(cfg: DictConfig) -> Mapping[str, HookBase]:
    cfg = copy.deepcopy(cfg)
    put_iterations(cfg, epoch=1)  # how long an epoch is doesn't matter here
    with without_log():
        return build_hooks(cfg)


def _refused(key: str, hook: HookBase, hooks: Mapping[str, HookBase], run: EvaluationRun) -> Iterator[Fault]:
    if not type(hook).__module__.startswith(OWN_PACKAGES):
        return
    hook.trainer = SimpleNamespace(named_hooks=hooks, evaluate=run)  # type: ignore[assignment]
    try:
        hook.check()  # type: ignore[attr-defined]
    except UserError as error:
        place, _, message = error.message.partition(": ")
        yield Fault(place, message, error.fix) if place.startswith(key) else Fault(key, error.message, error.fix)


def _nodes(node: DictConfig | ListConfig) -> list:
    return list(node) if isinstance(node, ListConfig) else [node]


def _names_metrics(node: object) -> bool:
    target = target_class(node)
    return target is not None and issubclass(target, NamesMetrics)
