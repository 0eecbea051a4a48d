"""Where the tools are: inside the package when installed from a wheel, else beside it in the checkout."""

import os
import sys
from pathlib import Path


def tools_folder() -> Path:
    package = Path(__file__).resolve().parent
    installed = package / "tools"
    return installed if installed.is_dir() else package.parent / "tools"


def training_tool() -> Path:
    """tools/lazy_train.py."""
    return tools_folder() / "lazy_train.py"


def training_command(
    config_file: str | os.PathLike, num_gpus: int | None = None, num_processes: int | None = None
) -> list[str]:
    """The words of a command that trains, with the numbers of processes that are given."""
    words = [sys.executable, str(training_tool()), "--config-file", os.fspath(config_file)]
    for flag, number in (("--num-gpus", num_gpus), ("--num-processes", num_processes)):
        words += [flag, str(number)] if number is not None else []
    return words
