"""The folder of a sweep: whose it is, so that workers join the same sweep and no other one."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from xray_lazy.config import diff_configs, load_config, save_config
from xray_lazy.config.yaml_format import parse_yaml
from xray_lazy.errors import UserError
from xray_lazy.run_folder import CONFIG, SWEEP_RECORD
from xray_lazy.sweeps.study import JOURNAL, trial_folder
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.sweep_results import BEST_CONFIG_NAME, PAGE_NAME, TABLE_NAME
from xray_lazy.utils.atomic_file import write_text

SHOWN = 8
# what trials are like; names, bounds and notes may change while a sweep goes on
ESSENTIAL = ("method", "metric", "early_terminate", "optuna")


def open_sweep_folder(folder: Path, sweep: Sweep, cfg: DictConfig) -> bool:
    """Make the folder of a new sweep, or join the one that is there; returns whether it was there.

    Args:
        folder: with the sweep's file, the config that all trials start from, and everything that the sweep makes.
        sweep: as it is to be run.
        cfg: with the overrides that are the same for all trials.

    Raises:
        UserError: the folder holds another sweep, or can't be written.
    """
    cfg = OmegaConf.merge(cfg, {"train": {"output_dir": str(folder)}})
    if not (folder / SWEEP_RECORD).exists():
        _raise_if_used(folder, cfg)
    record = _record(sweep)
    if (folder / SWEEP_RECORD).is_file():
        differences = _differences(
            parse_yaml((folder / SWEEP_RECORD).read_text(encoding="utf-8"), str(folder / SWEEP_RECORD)), record
        )
        recorded = load_config(folder / CONFIG)
        recorded.train.output_dir = cfg.train.output_dir  # the folder may have been moved since
        differences += diff_configs(recorded, cfg)
        if differences:
            raise _other_sweep(folder, differences)
        return True
    try:
        save_config(cfg, folder / CONFIG)
        write_text(folder / SWEEP_RECORD, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"can't write into the sweep's folder {folder}: {error}", "give another --output-dir") from None
    return False


def _raise_if_used(folder: Path, cfg: DictConfig) -> None:
    """Refuse a folder without a sweep that has files which one would replace, or folders that would pass for trials."""
    present = folder / CONFIG
    others = [CONFIG] if present.is_file() and diff_configs(load_config(present), cfg) else []
    if not (folder / JOURNAL).exists():  # else it is a sweep whose record was deleted
        made = (trial_folder(folder, 0).parent.name, TABLE_NAME, PAGE_NAME, BEST_CONFIG_NAME)
        others += [name for name in made if (folder / name).exists()]
    if others:
        raise UserError(f"{folder} holds {others[0]}, and no sweep", "give another --output-dir")


def _record(sweep: Sweep) -> dict:
    """What makes it this sweep, as plain data."""
    essential = {key: sweep.document[key] for key in ESSENTIAL if key in sweep.document}
    parameters = {
        key: {"distribution": parameter.distribution, **parameter.settings}
        for key, parameter in sweep.parameters.items()
    }
    return {"name": sweep.name, **essential, "parameters": parameters}


def _differences(there: dict, record: dict) -> list[str]:
    return [
        f"{key}: {there.get(key)} -> {record.get(key)}"
        for key in (*ESSENTIAL, "parameters")
        if there.get(key) != record.get(key)
    ]


def _other_sweep(folder: Path, differences: Sequence[str]) -> UserError:
    lines = [f"    {line}" for line in differences[:SHOWN]]
    if len(differences) > SHOWN:
        lines.append(f"    and {len(differences) - SHOWN} more")
    return UserError(
        f"the folder {folder} holds another sweep:\n" + "\n".join(lines),
        "give another --output-dir, or go back to that sweep's file, config and overrides",
    )
