"""The command of a trial: tools/lazy_train.py with its overrides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray_lazy.config.override_text import override
from xray_lazy.tool_files import training_command


@dataclass(frozen=True)
class TrainingCommand:
    """What all trials of a sweep have in common.

    Attributes:
        config_file: of the experiment.
        overrides: fixed for all trials.
        num_gpus, num_processes: of each trial; None leaves it to the training.
    """

    config_file: str
    overrides: Sequence[str] = ()
    num_gpus: int | None = None
    num_processes: int | None = None

    def of(self, parameters: Mapping[str, Any], folder: Path) -> list[str]:
        """The words of the command that trains with `parameters` in `folder`, or goes on with what is there."""
        words = training_command(self.config_file, self.num_gpus, self.num_processes)
        parameters = {**parameters, "train.output_dir": str(folder)}
        return [*words, "--resume", *self.overrides, *(override(key, value) for key, value in parameters.items())]
