"""Checkpoints as model artifacts of a W&B run. This module imports wandb."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb

from xray_lazy.run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint that is complete, the names it goes by, and what is known of it."""

    path: Path
    aliases: list[str]
    metadata: dict[str, Any]


def log_checkpoints(run: Any, folder: str | Path, kinds: str, iteration: int) -> None:
    """Log checkpoints of a training that is done as versions of the run's model artifact; returns when they are sent.

    They are sent with the config from where they lie, without a copy; where W&B records offline, `wandb sync` looks for
    them there.

    Args:
        run: W&B's.
        folder: the output folder.
        kinds: has the words "best" or "final" or both.
        iteration: the last one that was done.
    """
    name = re.sub(r"[^\w.-]", "_", f"{run.name}-{run.id}")
    for model in finished_checkpoints(RunFolder(folder), kinds, iteration):
        artifact = wandb.Artifact(name, type="model", metadata=model.metadata)
        # the files are final: copies in the home folder would only take its space
        artifact.add_file(str(model.path), policy="immutable", skip_cache=True)
        artifact.add_file(str(RunFolder(folder).config), policy="immutable", skip_cache=True)
        logged = run.log_artifact(artifact, aliases=model.aliases)
        if not run.offline:
            logged.wait()
        logger.info("W&B artifact %s:%s is %s", name, model.aliases[0], model.path.name)


def finished_checkpoints(folder: RunFolder, kinds: str, iteration: int) -> list[ModelFile]:
    """The checkpoints that a training leaves; none before it is done, because better ones may come."""
    if not (folder.last.is_file() and folder.is_complete()):
        return []
    found = []
    if "best" in kinds:
        for record in folder.best_records():
            best = json.loads(record.read_text(encoding="utf-8"))
            metadata = {name: best[name] for name in ("metric", "mode", "value", "iteration")}
            path = folder.path / best["file"]
            if path.is_file():
                found.append(ModelFile(path, [record.stem, f"iter_{best['iteration']}"], metadata))
        if not found:
            logger.warning(
                "W&B gets no best checkpoint (writers.wandb.checkpoints=%s): the run kept none; "
                "hooks.best_checkpoint keeps it, by evaluations (train.eval_period)",
                kinds,
            )
    if "final" in kinds:
        metadata = {"iteration": iteration, **_metrics(folder, iteration)}
        found.append(ModelFile(folder.final, ["final", f"iter_{iteration}"], metadata))
    return found


def _metrics(folder: RunFolder, iteration: int) -> dict[str, float | None]:
    """Box and mask AP of the evaluation of these weights, where there was one."""
    metrics = {}
    for evaluation in sorted(folder.evaluations(), key=lambda one: len(one.parts)):  # that of several sets counts
        if (evaluation.iteration, evaluation.suffix) == (iteration, ""):
            metrics |= {k: value for k, value in evaluation.metrics.items() if k.endswith(("/AP", "/AP50"))}
    return metrics
