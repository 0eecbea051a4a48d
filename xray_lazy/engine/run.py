"""From a config file and flags to running processes: load, check everything, then launch."""

import logging
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from xray_lazy.engine.prepare import evaluation_faults, prepare, training_faults
from xray_lazy.engine.processes.launch import plan_launch, run_processes
from xray_lazy.engine.processes.launch_plan import LaunchPlan
from xray_lazy.run_folder import RunFolder
from xray_lazy.utils.out_of_memory import explained_out_of_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig

PLANNED = ("num_gpus", "num_processes", "num_machines", "machine_rank", "dist_url")


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
    from xray_lazy.config import raise_faults, to_yaml

    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)

    def check_folder(cfg: "DictConfig") -> None:
        from xray_lazy.engine.output_folder.folder_ownership import check_run_folder

        if options.eval_only:
            RunFolder(cfg.train.output_dir).check()
        else:
            check_run_folder(cfg, options.resume, options.overwrite)

    prepared = prepare(
        options.config_file,
        options.overrides,
        options.presets,
        plan=partial(plan_launch, **{name: getattr(options, name) for name in PLANNED}),
        find_faults=evaluation_faults if options.eval_only else training_faults,
        check_folder=check_folder,
    )
    cfg, plan = prepared.cfg, prepared.plan
    from xray_lazy.engine.hook_order import put_in_order
    from xray_lazy.engine.preflight.preflight import warn_of_uncounted_detections

    warn_of_uncounted_detections(cfg)
    if not options.eval_only:
        put_in_order(cfg)
    if options.dry_run:
        from xray_lazy.engine.experiment import check_weights, warn_of_augmentation
        from xray_lazy.engine.preflight.trial_step import try_images

        raise_faults(try_images(cfg, training=not options.eval_only))  # a start meets these at its first image
        check_weights(cfg, training=not options.eval_only, resume=options.resume)
        if not options.eval_only:
            warn_of_augmentation(cfg)
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
