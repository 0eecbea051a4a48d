"""The metrics of weights that are evaluated after their training, in the W&B run of that training."""

import dataclasses
import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy.run_folder import RunFolder
from xray_lazy.tracking.logged_names import AXES, names_of
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_files import find_parts, has_ended
from xray_lazy.tracking.wandb_session import WandbSession
from xray_lazy.tracking.wandb_sync import OPTIONS
from xray_lazy.utils.wording import tool_command

logger = logging.getLogger(__name__)


def add_evaluation(cfg: DictConfig, dataset: str, metrics: Mapping[str, float], iteration: int) -> None:
    """Log metrics of `train.init_checkpoint` to the W&B run of the training in whose output folder that lies, if any.

    Those of the set that training evaluates have their usual names, where training has none of that iteration; those of
    another set are `<data set>/segm/AP`. To a run in training nothing is added: W&B's runs have one writer at a time.

    Args:
        cfg: of the evaluation; `writers.wandb` says whether W&B is used.
        dataset: the name of the evaluated set.
        metrics: by the event storage's names.
        iteration: of the weights.
    """
    files = RunFolder(Path(cfg.train.init_checkpoint).parent)
    folder = files.path
    settings = OmegaConf.select(cfg, "writers.wandb")
    if settings is None or not files.record.is_file():
        return
    run = RunRecord.read(files.record)
    there = next((line for line in files.read_metrics() if line["iteration"] == iteration), {})
    values = _logged(cfg, run, dataset, metrics, there)
    if run.wandb_id is None or not values:
        return
    if not has_ended(folder, run.wandb_id):
        fix = f"when it has ended, evaluate again; if it was killed, first: {tool_command('sync', folder)}"
        logger.warning("W&B has not got these metrics, the run of %s is still open there; fix: %s", folder, fix)
        return
    writer = run.config["writers"]["wandb"]
    options = {name: writer.get(name) for name in OPTIONS}
    how = (settings.get("mode", "auto"), settings.get("timeout", 30.0), options, settings.get("axis", "iteration"))
    session = WandbSession(str(folder), writer.get("name"), *how)
    parts = find_parts(folder, run.wandb_id)
    session.start(dataclasses.replace(run, start_iteration=sys.maxsize))
    session.log({**values, **{name: there[name] for name in AXES if name in there}, "iteration": iteration})
    session.close((parts[-1].exit_code() or 0) if parts else 0)


def _logged(
    cfg: DictConfig, run: RunRecord, dataset: str, metrics: Mapping[str, float], there: Mapping[str, Any]
) -> dict[str, float]:
    """What is new, by logged name."""
    metrics = {name: value for name, value in metrics.items() if not math.isnan(value)}
    if run.datasets.get("test", {}).get("name") != dataset:
        return {f"{dataset}/{name}": value for name, value in metrics.items()}
    names = names_of(cfg)
    return {names.logged(name): names.scale(name) * metrics[name] for name in metrics.keys() - there.keys()}
