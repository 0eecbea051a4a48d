"""Whether a sweep fits the config that its trials start from: keys, types, and values, before anything is started."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xray_lazy.config import Fault, apply_overrides, flatten
from xray_lazy.config.keys import is_within
from xray_lazy.config.override_text import override, value_text
from xray_lazy.engine.preflight.idle_overrides import Switch, idle_overrides, warn_of_idle
from xray_lazy.engine.preflight.preflight import check_experiment
from xray_lazy.engine.preflight.setting_limits import check_settings
from xray_lazy.engine.preflight.start_checks import check_metric
from xray_lazy.errors import UserError
from xray_lazy.sweeps.search_space import Parameter
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.trial_metric import event_name

BATCH_SIZE = "dataloader.train.total_batch_size"
MANY = 50
# parts of the keys that say which files are read, and what must fit to them, as the metrics that data can give
READ = (".dataset.", "init_checkpoint", "num_classes", ".metric")


def space_faults(sweep: Sweep, cfg: DictConfig, overridden: Collection[str], world_size: int) -> list[Fault]:
    """All faults of a sweep's parameters, and, where there are none, those of the experiment.

    Args:
        sweep: its parameters are tried as overrides: each listed value, and a low, a middle and a high one of others.
        cfg: the config with the overrides that are the same for all trials.
        overridden: the keys of these.
        world_size: processes of each trial.
    """
    faults = [fault for each in sweep.parameters.values() for fault in _parameter_faults(each, cfg, overridden)]
    if OmegaConf.select(cfg, "hooks.checkpoint") is None:
        fix = "keep it: trials that are interrupted go on from its files, and by them it is known that one is complete"
        faults.append(Fault("hooks.checkpoint", "the config has no such hook", fix))
    if OmegaConf.select(cfg, "writers.json") is None:
        faults.append(Fault("writers.json", "the config has no such writer", "keep it: a sweep reads the metric there"))
    if faults := faults or _idle_faults(sweep, cfg):
        return faults
    if not (faults := _experiment_faults(sweep, cfg, world_size)):
        warn_of_idle(_idle(sweep, cfg, overridden))
    return faults


def without_odd_batches(sweep: Sweep, cfg: DictConfig, world_size: int) -> tuple[Sweep, list[Any]]:
    """The sweep without batch sizes that can't be spread evenly over a trial's processes, and these."""
    parameter, parts = (
        sweep.parameters.get(BATCH_SIZE),
        world_size * max(OmegaConf.select(cfg, "train.accumulate") or 1, 1),
    )
    if parameter is None or parameter.distribution != "categorical" or "train.accumulate" in sweep.parameters:
        return sweep, []
    odd = [value for value in parameter.values if isinstance(value, int) and value % parts]
    if not odd or len(odd) == len(parameter.values) or parameter.settings.get("probabilities"):
        return sweep, []
    even = dataclasses.replace(parameter, settings={"values": [v for v in parameter.values if v not in odd]})
    return dataclasses.replace(sweep, parameters={**sweep.parameters, BATCH_SIZE: even}), odd


def describe_space(sweep: Sweep) -> str:
    """A line for each parameter, aligned."""
    width = max(map(len, sweep.parameters))
    return "\n".join(f"  {key:{width}}  {parameter}" for key, parameter in sweep.parameters.items())


def _experiment_faults(sweep: Sweep, cfg: DictConfig, world_size: int) -> list[Fault]:
    """Those of the experiment with a middle value of each parameter, and with each value that says what is read."""
    middle = _middle(sweep)
    faults: dict[Fault, None] = {}
    seen = []
    for key, value in [*middle.items(), *((k, v) for k, p in sweep.parameters.items() for v in p.values or ())]:
        changed = apply_overrides(cfg, [override(*pair) for pair in (middle | {key: value}).items()])
        read = {k: v for k, v in flatten(changed).items() if any(part in k for part in READ)}
        if read not in seen:
            seen.append(read)
            found = check_experiment(changed, world_size)
            found = found or list(check_metric(changed, event_name(sweep.metric, changed), "metric.name"))
            faults |= dict.fromkeys(found)
    return list(faults)


def _idle_faults(sweep: Sweep, cfg: DictConfig) -> list[Fault]:
    """Parameters that change nothing in any trial: all of its values give the same figures, but for chance."""
    return [
        Fault(
            f"parameters.{key}",
            f"it has no effect while {switch.is_off}",
            f"add {switch.on} to the command, or leave it out",
        )
        for key, switch in _idle(sweep, cfg, sweep.parameters)
    ]


def _idle(sweep: Sweep, cfg: DictConfig, keys: Collection[str]) -> Iterator[tuple[str, Switch]]:
    """Those of `keys` whose switch is off in every trial, each with its switch."""
    changed = apply_overrides(cfg, [override(*pair) for pair in _middle(sweep).items()])
    varied = tuple(key for key, parameter in sweep.parameters.items() if len(parameter.values or (0, 1)) > 1)
    for key, switch in idle_overrides(changed, keys):
        if not any(is_within(name, varied) for name in switch.off):
            yield key, switch


def _middle(sweep: Sweep) -> dict[str, Any]:
    return {key: parameter.at(0.5) for key, parameter in sweep.parameters.items()}


def _parameter_faults(parameter: Parameter, cfg: DictConfig, overridden: Collection[str]) -> Iterator[Fault]:
    place = f"parameters.{parameter.key}"
    if parameter.key == "train.output_dir":
        yield Fault(place, "each trial has an output folder of its own", "leave it out; see --output-dir")
        return
    if parameter.key in overridden:
        yield Fault(place, "it is given as an override for all trials, too", "leave one of the two out")
    for value in _probes(parameter):
        text = override(parameter.key, value)
        try:
            changed = apply_overrides(cfg, [text])
        except UserError as error:
            message = error.message.removeprefix(f"{text}: ")
            yield Fault(place, message, error.fix.partition(" (+")[0])
            return
        if faults := check_settings(changed, [parameter.key]):
            yield Fault(place, faults[0].message, faults[0].fix)
            return
    present = OmegaConf.select(cfg, parameter.key)
    if isinstance(present, float) and parameter.distribution == "int_uniform":
        low, high = parameter.bounds
        message = (
            f"it is {value_text(present)} in the config, and from {low} to {high} it would only take whole numbers"
        )
        yield Fault(place, message, f"write min: {float(low)}, or list its values")


def _probes(parameter: Parameter) -> list[Any]:
    return list(parameter.values)[:MANY] if parameter.values else [parameter.at(quantile) for quantile in (0, 0.5, 1)]
