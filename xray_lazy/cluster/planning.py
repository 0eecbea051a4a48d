"""What a command line asks for as jobs, each checked wholly before anything is written or submitted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from xray_lazy.cluster.array import expand
from xray_lazy.cluster.job_record import read_records
from xray_lazy.cluster.profile import Profile
from xray_lazy.cluster.slurm_commands import check_request
from xray_lazy.cluster.status import read_status
from xray_lazy.config import (
    Fault,
    apply_overrides,
    flatten,
    raise_faults,
)
from xray_lazy.config.period import parse_epochs
from xray_lazy.config.unread import load_experiment
from xray_lazy.errors import UserError


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
    if profile.executor == "slurm":
        check_request(profile)
    base = load_experiment(options.config_file, presets=options.presets)
    overrides = list(options.overrides)
    if options.with_evaluator and OmegaConf.select(base, "hooks.evaluation") is not None:
        overrides.append("~hooks.evaluation")  # the other job does it
    jobs = [_plan_job(base, element.name, element.overrides) for element in expand(overrides)]
    checked: set[str] = set()
    for job in jobs:
        try:
            raise_faults(find_faults(job, profile, checked))
            _check_folder(job, options)
        except UserError as error:
            if not job.name:
                raise
            raise UserError(f"in the job {job.name}: {error.message}", error.fix) from None
    return jobs


def find_faults(job: PlannedJob, profile: Profile, checked: set[str]) -> list[Fault]:
    """The faults of a job's config, whose lengths in epochs become iterations.

    Args:
        checked: remembers the data, models and weights that were looked at: jobs of an array mostly share them.
    """
    from xray_lazy.engine.epochs import resolve_epochs
    from xray_lazy.engine.preflight import check_experiment, check_parts
    from xray_lazy.engine.trial_step import try_pictures

    device = OmegaConf.select(job.cfg, "train.device")
    if device == "cuda" and not profile.gpus_per_node:
        return [
            Fault("train.device", "it is cuda, and the job has no GPUs", "give --gpus-per-node, or train.device=cpu")
        ]
    if device == "cpu" and profile.gpus_per_node:
        return [Fault("train.device", "it is cpu, and the job asks for GPUs", "leave out --gpus-per-node, or this key")]
    looked_at = _what_data_checks_need(job.cfg)
    faults = check_parts(job.cfg)
    if not faults and looked_at not in checked:
        faults = check_experiment(job.cfg, profile.world_size) or try_pictures(job.cfg)
        checked.add(looked_at)
    if not faults and _has_epochs(job.cfg):
        faults = resolve_epochs(job.cfg, job.overrides)
    return faults


def _plan_job(base: DictConfig, name: str, overrides: list[str]) -> PlannedJob:
    cfg = apply_overrides(base, overrides)
    if name and OmegaConf.select(cfg, "train.output_dir"):  # where it is missing, `find_faults` says so
        cfg.train.output_dir = os.path.join(cfg.train.output_dir, name)
    return PlannedJob(name, cfg, overrides)


def _what_data_checks_need(cfg: DictConfig) -> str:
    """The config without what data, model and weights don't depend on."""
    apart = ("optimizer.", "lr_multiplier.", "hooks.", "writers.", "train.output_dir")
    values = flatten(cfg).items()
    return str([(key, value) for key, value in values if not key.startswith(apart) and not key.endswith("seed")])


def _has_epochs(cfg: DictConfig) -> bool:
    values = flatten(cfg)
    return values.get("train.max_epochs") is not None or any(parse_epochs(value) for value in values.values())


def _check_folder(job: PlannedJob, options: SubmitOptions) -> None:
    """Refuse a folder that holds another run, or that a job works on."""
    from xray_lazy.engine.experiment import check_resumable
    from xray_lazy.engine.run_folder import check_run_folder, checkpoint_exists

    newest = {record.kind: record for record in read_records(job.output_dir)}
    for status in read_status(list(newest.values()), with_progress=False):
        if status.active:
            raise UserError(
                f"the job {status.record.job_id} works on {job.output_dir}: it is {status.state}",
                f"python tools/submit.py cancel {job.cfg.train.output_dir}, or choose another train.output_dir",
            )
    check_run_folder(job.cfg, options.resume, options.overwrite)
    if options.resume and options.overwrite and checkpoint_exists(job.cfg):
        check_resumable(job.cfg)  # the job would find out when the config that fits is gone
