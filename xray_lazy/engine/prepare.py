"""The one way from a config and a command line to an experiment that can be run: load, change, plan, check."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xray_lazy.config import Fault, apply_presets, load_config, raise_faults
from xray_lazy.engine.processes.launch import plan_launch
from xray_lazy.engine.processes.launch_plan import LaunchPlan
from xray_lazy.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Prepared:
    """An experiment that is ready to be run.

    Attributes:
        cfg: with presets and overrides; where it was checked for training, epochs are iterations.
        overridden: the keys of the overrides.
        plan: of its processes.
    """

    cfg: "DictConfig"
    overridden: frozenset[str]
    plan: LaunchPlan


def training_faults(prepared: Prepared) -> list[Fault]:
    """All faults of a training; where there are none, its lengths in epochs become iterations."""
    from xray_lazy.engine.epochs import resolve_epochs

    return _faults(prepared, training=True) or resolve_epochs(prepared.cfg, prepared.overridden)


def evaluation_faults(prepared: Prepared) -> list[Fault]:
    """All faults of an evaluation of the config's weights."""
    return _faults(prepared, training=False)


def _faults(prepared: Prepared, training: bool) -> list[Fault]:
    """All faults; where there are none, overrides that change nothing are warned of."""
    from xray_lazy.engine.preflight.idle_overrides import warn_of_idle_overrides
    from xray_lazy.engine.preflight.preflight import check_experiment

    faults = check_experiment(prepared.cfg, prepared.plan.world_size, training)
    if not faults:
        warn_of_idle_overrides(prepared.cfg, prepared.overridden, training)
    return faults


def prepare(
    config: "str | os.PathLike | DictConfig",
    overrides: Sequence[str] = (),
    presets: Sequence[str] = (),
    *,
    plan: Callable[[str], LaunchPlan] = plan_launch,
    adapt: "Callable[[DictConfig], None]" = lambda cfg: None,
    find_faults: Callable[[Prepared], Sequence[Fault]] | None = training_faults,
    check_folder: "Callable[[DictConfig], None]" = lambda cfg: None,
) -> Prepared:
    """Load a config, change and check it; writes nothing.

    Args:
        config: a file, of whose keys those are told that no one reads; or a config that was loaded before.
        overrides, presets: as `apply_overrides` and `apply_presets` take them; presets come first.
        plan: makes the processes' plan for the config's device.
        adapt: changes the config in place when all overrides are in, such as the place of its folder.
        find_faults: of what the config is for; None leaves them to the caller.
        check_folder: refuses an output folder that is not to be used; asked on the first process only, as another one
            may already be writing there.

    Raises:
        UserError: any fault of config, data, weights, devices or output folder.
    """
    from omegaconf import DictConfig, OmegaConf

    from xray_lazy.config.overrides import change_config
    from xray_lazy.config.unread import warn_of_unread_keys

    if not isinstance(config, DictConfig):
        path, config = config, load_config(config)
        if not {"train", "model"} & set(config):
            raise UserError(
                f"{path} is no config of a training: it has neither train nor model",
                "give a LazyConfig or a run's config.yaml; presets go with --preset, a sweep's file to tools/sweep.py",
            )
        warn_of_unread_keys(config)
    cfg, changes = change_config(apply_presets(config, presets) if presets else config, overrides)
    adapt(cfg)
    device = OmegaConf.select(cfg, "train.device", default="auto")  # where it is missing, the check says so
    prepared = Prepared(cfg, frozenset(change.key for change in changes), plan(device))
    raise_faults(find_faults(prepared) if find_faults else [])
    if prepared.plan.is_first:
        check_folder(cfg)
    return prepared
