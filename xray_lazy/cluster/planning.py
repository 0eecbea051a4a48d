"""What a command line asks for as jobs, each checked wholly before anything is written or submitted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy.cluster.array import expand
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.job_record import read_records
from xray_lazy.cluster.slurm_commands import check_request
from xray_lazy.cluster.status import read_status
from xray_lazy.config import Fault, flatten
from xray_lazy.config.period import parse_epochs
from xray_lazy.engine.prepare import Prepared, prepare
from xray_lazy.engine.processes.launch_plan import LaunchPlan
from xray_lazy.errors import UserError
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.wording import tool_command


@dataclass(frozen=True)
class SubmitOptions:
    """What the command line says beside the profile."""

    config_file: str
    overrides: Sequence[str] = ()
    presets: Sequence[str] = field(default_factory=list)
    resume: bool = False
    overwrite: bool = False
    with_evaluator: bool = False


@dataclass(frozen=True)
class PlannedJob:
    """One job that is checked and ready to be submitted.

    Attributes:
        name: what tells it from the other jobs of an array; "" for a single one.
        cfg: whole, with overrides, and its output folder in `train.output_dir`.
        overrides: of this job.
    """

    name: str
    cfg: DictConfig
    overrides: list[str]

    @property
    def output_dir(self) -> Path:
        return Path(self.cfg.train.output_dir).absolute()


def plan_jobs(options: SubmitOptions, profile: Profile) -> list[PlannedJob]:
    """The jobs that a command line asks for, each checked as `lazy_train.py --dry-run` does.

    Raises:
        UserError: a fault of config, data, weights or output folder in any of the jobs, or the cluster hasn't what one
            needs.
    """
    from xray_lazy.engine.experiment import check_weights

    if profile.executor == "slurm":
        check_request(profile)
    base = prepare(options.config_file, presets=options.presets, plan=LaunchPlan, find_faults=None).cfg
    overrides = list(options.overrides)
    if options.with_evaluator and OmegaConf.select(base, "hooks.evaluation") is not None:
        overrides.append("~hooks.evaluation")  # the other job does it
    jobs, looked_at, loaded = [], set(), set()
    for job in expand(overrides):
        more = {"adapt": partial(_move_below, name=job.name), "check_folder": partial(_check_folder, options=options)}
        try:
            cfg = prepare_job(base, profile, looked_at, job.overrides, **more)
            needed = _what_data_checks_need(cfg)
            if options.resume or needed not in loaded:
                check_weights(cfg, resume=options.resume)
                loaded.add(needed)
        except UserError as error:
            if not job.name:
                raise
            raise UserError(f"in the job {job.name}: {error.message}", error.fix) from None
        jobs.append(PlannedJob(job.name, cfg, job.overrides))
    return jobs


def prepare_job(
    config: DictConfig, profile: Profile, looked_at: set[str], overrides: Sequence[str] = (), **more: Any
) -> DictConfig:
    """The config of a job with such a profile, as `prepare` makes it.

    Args:
        looked_at: remembers data, models and weights: jobs of an array mostly share them.
        more: for `prepare`.
    """
    plan, faults = partial(LaunchPlan, processes=profile.world_size), partial(_faults, profile, looked_at)
    return prepare(config, overrides, plan=plan, find_faults=faults, **more).cfg


def _move_below(cfg: DictConfig, name: str) -> None:
    if name and OmegaConf.select(cfg, "train.output_dir"):  # where it is missing, `_faults` says so
        cfg.train.output_dir = os.path.join(cfg.train.output_dir, name)


def _faults(profile: Profile, looked_at: set[str], prepared: Prepared) -> list[Fault]:
    from xray_lazy.engine.epochs import resolve_epochs
    from xray_lazy.engine.preflight.preflight import check_experiment, check_parts
    from xray_lazy.engine.preflight.start_checks import check_start
    from xray_lazy.engine.preflight.trial_step import try_images

    cfg = prepared.cfg
    device = OmegaConf.select(cfg, "train.device")
    if device == "cuda" and not profile.gpus_per_node:
        return [
            Fault("train.device", "it is cuda, and the job has no GPUs", "give --gpus-per-node, or train.device=cpu")
        ]
    if device == "cpu" and profile.gpus_per_node:
        return [Fault("train.device", "it is cpu, and the job asks for GPUs", "leave out --gpus-per-node, or this key")]
    to_look_at = _what_data_checks_need(cfg)
    if to_look_at in looked_at:
        faults = check_parts(cfg) or list(check_start(cfg))
    else:
        faults = check_experiment(cfg, prepared.plan.world_size) or try_images(cfg)
        looked_at.add(to_look_at)
    if not faults and _has_epochs(cfg):
        faults = resolve_epochs(cfg, prepared.overridden)
    return faults


def _what_data_checks_need(cfg: DictConfig) -> str:
    """The config without what data, model and weights don't depend on."""
    apart = ("optimizer.", "lr_multiplier.", "hooks.", "writers.", "train.output_dir")
    values = flatten(cfg).items()
    return str([(key, value) for key, value in values if not key.startswith(apart) and not key.endswith("seed")])


def _has_epochs(cfg: DictConfig) -> bool:
    values = flatten(cfg)
    return values.get("train.max_epochs") is not None or any(parse_epochs(value) for value in values.values())


def _check_folder(cfg: DictConfig, options: SubmitOptions) -> None:
    """Refuse a folder that holds another run, or that a job works on."""
    from xray_lazy.engine.output_folder.folder_ownership import check_run_folder

    folder = RunFolder(Path(cfg.train.output_dir).absolute())
    newest = {record.kind: record for record in read_records(folder.path)}
    for status in read_status(list(newest.values()), with_progress=False):
        if status.active:
            raise UserError(
                f"the job {status.record.job_id} works on {folder.path}: it is {status.state}",
                f"{tool_command('submit', 'cancel', cfg.train.output_dir)}, or choose another train.output_dir",
            )
    check_run_folder(cfg, options.resume, options.overwrite)
