"""The training of one task: `python -m ...training_process OUTPUT_DIR WORKING_DIR COMMAND [OVERRIDE...]`."""

import os
import shlex
import sys

from xray_lazy.command_line import run_tool


def main(output_dir: str, working_dir: str, command: str, *overrides: str) -> None:
    """Train `<output_dir>/config.yaml` in `working_dir`, from the last checkpoint if any; it holds the overrides."""
    from xray_lazy.engine.run import RunOptions, run
    from xray_lazy.run_folder import RunFolder

    os.chdir(working_dir)
    sys.argv = shlex.split(command) or sys.argv  # for the run's record: the user knows the command that submitted it
    run(RunOptions(str(RunFolder(output_dir).config), applied_overrides=list(overrides), resume=True))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    run_tool(lambda: main(*arguments))
