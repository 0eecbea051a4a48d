"""A sweep's own run at W&B, beside those of its trials: the table of trials, the plots, the best values."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy.run_folder import RunFolder
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.sweep_results import figure_sections
from xray_lazy.sweeps.trials import Trial, best_trial
from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb_session import WandbSession

JOB_TYPE = "sweep"
TIMEOUT = 30.0


def log_summary(folder: Path, sweep: Sweep, trials: Sequence[Trial], cfg: DictConfig) -> None:
    """Log the sweep's results to W&B as the config's `writers.wandb` says: online, offline, or not at all.

    It is one run however often the sweep goes on; its id is in the `run.json` of the sweep's folder. What W&B can't do
    is a warning.

    Args:
        folder: of the sweep.
        sweep: as its file says.
        trials: all of them.
        cfg: the config of the trials.
    """
    writer = cfg.writers.get("wandb")
    if writer is None or not trials:
        return
    cfg = OmegaConf.merge(cfg, {"train": {"output_dir": str(folder)}})
    options = {"project": sweep.project or writer.project, "entity": sweep.entity or writer.get("entity")}
    options |= {"group": folder.name, "job_type": JOB_TYPE, "notes": sweep.description or None}
    session = WandbSession(str(folder), folder.name, writer.get("mode", "auto"), TIMEOUT, options)
    run = RunRecord.collect(cfg, resumed=True)
    run.config["sweep"] = sweep.document
    facts = session.start(run)
    if not session.is_open:
        return
    run.wandb_id = facts["wandb_id"]
    run.write(RunFolder(folder).record)
    session.use("log the sweep", lambda opened: opened.log(_media(sweep, trials)))
    session.summarize(_best(sweep, trials))
    session.close()


def _media(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    from wandb import Plotly, Table

    names = ["trial", "state", sweep.metric.name, *sweep.varied, "minutes", "reason"]
    rows = [_cells(sweep, trial) for trial in trials]
    sections = figure_sections(sweep, trials)
    plots = {f"sweep/{section.title.lower().replace(' ', '_')}": Plotly(section.figure) for section in sections}
    return {"sweep/trials": Table(columns=names, data=rows, allow_mixed_types=True), **plots}


def _cells(sweep: Sweep, trial: Trial) -> list[Any]:
    minutes = None if trial.seconds is None else round(trial.seconds / 60, 2)
    settings = [_cell(trial.parameters.get(key)) for key in sweep.varied]
    return [trial.number, trial.state, trial.value, *settings, minutes, trial.reason]


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _best(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    best = best_trial(sweep.metric, trials)
    if best is None:
        return {}
    settings = {f"best/{key}": _cell(best.parameters[key]) for key in sweep.varied}
    return {"best/trial": best.number, f"best/{sweep.metric.name}": best.value, **settings}
