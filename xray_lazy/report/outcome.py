"""How a run went: whether it is complete, how long it took, and its best evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from xray_lazy import run_folder
from xray_lazy.engine.metric_names import better, possible_names
from xray_lazy.report.run_files import RunFiles, log_times
from xray_lazy.run_folder import MAIN_METRICS, Evaluation, RunFolder

# A log's lines have whole seconds, the record of a start is written a little later than the first of them.
START_SLACK = timedelta(seconds=30)


@dataclass(frozen=True)
class Best:
    """The best value of a metric, and after how many iterations."""

    metric: str
    value: float
    done: int


@dataclass(frozen=True)
class Outcome:
    """Attributes:
    state: "complete", "stopped early" (complete, too) or "unfinished".
    planned: iterations; None where nothing tells.
    wall_seconds: of all starts, from the log; None without one.
    step_seconds: the part of the training steps, of which data_seconds were spent waiting for data.
    best: of `metric`; None without an evaluation.
    """

    state: str
    done: int
    planned: int | None
    wall_seconds: float | None
    step_seconds: float | None
    data_seconds: float | None
    metric: str
    best: Best | None


def outcome_of(run: RunFiles, metric: str | None = None) -> Outcome:
    """Args:
    metric: whose best is looked for; by default the run's main one.
    """
    planned, metric = _planned(run), metric or main_metric(run)
    final = RunFolder(run.folder).is_complete()
    done = run.done or (planned if final and planned else 0)
    complete = planned is not None and done >= planned
    state = "complete" if complete else "stopped early" if final else "unfinished"
    return Outcome(
        state=state,
        done=done,
        planned=planned,
        wall_seconds=_wall_seconds(run),
        step_seconds=_total(run, "time"),
        data_seconds=_total(run, "data_time"),
        metric=metric,
        best=best_of(run, metric),
    )


def main_metric(run: RunFiles) -> str:
    """What the run's best checkpoint is chosen by, else its mask AP, else its box AP; with the suffix that it has."""
    present = {name for scores in run.scores.values() for name, value in scores.items() if value is not None}
    chosen = setting(run, "hooks", "best_checkpoint", "metric")
    for metric in (chosen, *MAIN_METRICS):
        task, _, rest = str(metric).partition("/")
        of_task = sorted(name for name in present if name.startswith(task) and name.endswith(f"/{rest}"))
        variants = [metric, *possible_names(str(metric), ["_EMA"]), *of_task]
        for name in variants:
            if name in present:
                return name
    return "bbox/AP"


def common_metric(runs: Sequence[RunFiles]) -> str | None:
    """The first run's main metric if all have it, else mask or box AP if all have that; else None."""
    candidates = (main_metric(runs[0]), *MAIN_METRICS)
    return next((metric for metric in candidates if all(best_of(run, metric) for run in runs)), None)


def best_of(run: RunFiles, metric: str) -> Best | None:
    """The best value and the first iteration that reached it."""
    values = [(scores[metric], -i) for i, scores in run.scores.items() if scores.get(metric) is not None]
    if not values:
        return None
    sign = -1 if better(metric) == "min" else 1
    value, place = max(values, key=lambda one: (sign * one[0], one[1]))
    return Best(metric, value, -place + 1)


def best_evaluation(run: RunFiles, with_detections: bool = True) -> Evaluation | None:
    """The evaluation on the test set with the best main metric, of those whose detections are still there."""
    own = [evaluation for evaluation in run.evaluations if evaluation.dataset == run.dataset]
    kept = [evaluation for evaluation in own if evaluation.has_predictions or not with_detections]
    metric = main_metric(run)
    if all(metric not in evaluation.metrics for evaluation in kept):  # it may be of one of several sets
        best = best_of(run, metric)
        kept = [evaluation for evaluation in kept if best and evaluation.iteration == best.done - 1] or kept
    return run_folder.best_evaluation(kept, metric)


def setting(run: RunFiles, *keys: str) -> Any:
    """A value of the run's resolved config; None where there is none."""
    value = run.record.get("config") or {}
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None and run.config is not None:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        try:
            value = OmegaConf.select(run.config, ".".join(keys))
        except OmegaConfBaseException:
            return None
    return value


def _planned(run: RunFiles) -> int | None:
    planned = setting(run, "train", "max_iter")
    return planned if isinstance(planned, int) else None


def _wall_seconds(run: RunFiles) -> float | None:
    """From each start to the last line of the log before the next one."""
    starts = [start["start_time"] for start in run.record.get("starts") or () if start.get("start_time")]
    try:
        starts = [datetime.fromisoformat(start).replace(tzinfo=None) for start in starts]
    except ValueError:
        return None
    if not starts:
        return None
    times, total = log_times(run.log, starts[0].year), 0.0
    for start, following in zip(starts, [*starts[1:], datetime.max], strict=True):
        within = [time for time in times if start - START_SLACK <= time < following]
        total += max(0.0, (max(within) - start).total_seconds()) if within else 0.0
    return total or None


def _total(run: RunFiles, name: str) -> float | None:
    """Seconds of all iterations: metrics.json has the median of those since the line before."""
    places, values = run.values(name)
    before, total = 0, 0.0
    for place, value in zip(places, values, strict=True):
        total += (place - before) * (value or 0.0)
        before = place
    return total or None
