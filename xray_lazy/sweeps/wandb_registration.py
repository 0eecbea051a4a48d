"""What W&B is told of a sweep: its file in W&B's keys, the metric as it is logged, and the command of a trial."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from xray_lazy.config.override_grammar import parse_override
from xray_lazy.config.override_text import value_text
from xray_lazy.errors import UserError
from xray_lazy.sweeps.search_space import Parameter
from xray_lazy.sweeps.sweep_file import Sweep
from xray_lazy.sweeps.training_command import TrainingCommand
from xray_lazy.tool_files import training_tool
from xray_lazy.tracking.logged_names import names_of


def registration(sweep: Sweep, cfg: DictConfig, command: TrainingCommand, folder: Path) -> dict[str, Any]:
    """The sweep as W&B's service wants it.

    Args:
        sweep: as its file says; nested parameters become dotted keys, and keys that W&B doesn't know are left out.
        cfg: the config of the trials, which says how trackers name the metric.
        command: of the trials.
        folder: of the sweep, in which trials have theirs.
    """
    document = {key: value for key, value in sweep.wandb_document().items() if key not in ("project", "entity")}
    document |= {"name": sweep.name, "program": _tool(), "command": agent_command(command, folder)}
    document["parameters"] = {key: _described(parameter) for key, parameter in sweep.parameters.items()}
    document["metric"] = {**document["metric"], "name": names_of(cfg).both(sweep.metric.name)[1]}
    return document


def agent_command(command: TrainingCommand, folder: Path) -> list[str]:
    """The words from which an agent makes the command of a trial, on any machine, in a checkout's own folder."""
    words = ["${env}", "${interpreter}", _tool(), "--config-file", command.config_file]
    for flag, number in (("--num-gpus", command.num_gpus), ("--num-processes", command.num_processes)):
        words += [flag, str(number)] if number else []
    # by the variable that the agent sets for each trial
    output_dir = f"train.output_dir={trial_folder(folder, '${oc.env:WANDB_RUN_ID}')}"
    return [*words, "--resume", *command.overrides, "writers.wandb.mode=online", output_dir, "${args_no_hyphens}"]


def registered_value(key: str, value: Any) -> Any:
    """A listed value as W&B gets it: itself, or its text in an override.

    An agent makes `key=str(value)` of it, which would be another value or none for groups, say, or for "8" as text.
    """
    try:
        read = parse_override(f"{key}={value}").value
    except UserError:
        return value_text(value)
    return value if read == value and type(read) is type(value) else value_text(value)


def trial_folder(folder: Path, run_id: str) -> Path:
    """The output folder of a trial."""
    return folder / "trials" / run_id


def _tool() -> str:
    """tools/lazy_train.py, relative where that is below the present folder: another machine's checkout has it, too."""
    path = training_tool()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _described(parameter: Parameter) -> dict[str, Any]:
    """A parameter in W&B's keys."""
    if parameter.distribution == "constant":
        return {"value": registered_value(parameter.key, parameter.values[0])}
    settings = {name: value for name, value in parameter.settings.items() if value is not None}
    if parameter.values is not None:
        return {**settings, "values": [registered_value(parameter.key, value) for value in parameter.values]}
    return {"distribution": parameter.distribution, **settings}
