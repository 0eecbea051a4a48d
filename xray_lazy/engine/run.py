"""From a config file and flags to running processes: load, check everything, then launch."""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

from xray_lazy.engine.launch import plan_launch, run_processes
from xray_lazy.engine.launch_plan import LaunchPlan
from xray_lazy.out_of_memory import explained_out_of_memory


@dataclass
class RunOptions:
    """What the command line says beside the config's overrides.

    `applied_overrides` are for the record: those that the config file, of an earlier resolved config, was made with.
    """

    config_file: str
    overrides: list[str] = field(default_factory=list)
    applied_overrides: list[str] = field(default_factory=list)
    presets: list[str] = field(default_factory=list)
    num_gpus: int | None = None
    num_processes: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    resume: bool = False
    eval_only: bool = False
    dry_run: bool = False
    overwrite: bool = False


def run(options: RunOptions) -> None:
    """Train or evaluate what `options.config_file` describes.

    With `resume` and no checkpoint yet, training starts from the beginning: a job that is started again and again
    can always say `--resume`.

    Raises:
        UserError: any fault of config, data, weights, devices or output folder, before anything is written.
        RunFailure: training began and can't go on.
    """
    from omegaconf import OmegaConf

    from xray_lazy.config import raise_faults, to_yaml
    from xray_lazy.config.unread import load_experiment

    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    cfg = load_experiment(options.config_file, options.overrides, options.presets)
    plan = plan_launch(
        OmegaConf.select(cfg, "train.device", default="auto"),  # where it is missing, the check below says so
        options.num_gpus,
        options.num_processes,
        options.num_machines,
        options.machine_rank,
        options.dist_url,
    )
    from xray_lazy.engine.epochs import resolve_epochs
    from xray_lazy.engine.hook_order import put_savers_last
    from xray_lazy.engine.preflight import check_experiment, warn_of_uncounted_detections
    from xray_lazy.engine.run_files import check_output_folder
    from xray_lazy.engine.run_folder import check_run_folder

    raise_faults(check_experiment(cfg, plan.world_size, training=not options.eval_only))
    warn_of_uncounted_detections(cfg)
    if options.eval_only:
        check_output_folder(Path(cfg.train.output_dir))
    else:
        raise_faults(resolve_epochs(cfg, options.overrides))
        if plan.group_rank in (None, 0) and plan.machine_rank == 0:
            check_run_folder(cfg, options.resume, options.overwrite)
        put_savers_last(cfg)
    if options.dry_run:
        from xray_lazy.engine.trial_step import try_pictures

        raise_faults(try_pictures(cfg, training=not options.eval_only))  # a start meets these at its first picture
        print(to_yaml(cfg), end="")
        return
    text = to_yaml(cfg, references=True)
    if options.eval_only:
        run_processes(plan, _evaluate, text, plan)
        return
    overrides = options.applied_overrides + options.overrides
    run_processes(plan, _train, text, plan, options.resume, options.overwrite, overrides)


def _train(text: str, plan: LaunchPlan, resume: bool, overwrite: bool, overrides: list[str]) -> None:
    from xray_lazy.config import from_yaml
    from xray_lazy.data.loaders import explained_worker_death
    from xray_lazy.engine.experiment import train

    with explained_out_of_memory(), explained_worker_death():
        # what runs is what config.yaml says
        train(from_yaml(text, "the config"), plan.device, resume, overwrite, overrides)


def _evaluate(text: str, plan: LaunchPlan) -> None:
    from xray_lazy.config import from_yaml
    from xray_lazy.data.loaders import explained_worker_death
    from xray_lazy.engine.experiment import evaluate

    with explained_out_of_memory(), explained_worker_death():
        evaluate(from_yaml(text, "the config"), plan.device)
