"""The training of one task: `python -m xray_lazy.cluster.training_process OUTPUT_DIR WORKING_DIR [OVERRIDE...]`."""

import os
import sys
from pathlib import Path

from xray_lazy.command_line import run_tool


def main(output_dir: str, working_dir: str, *overrides: str) -> None:
    """Train `<output_dir>/config.yaml` in `working_dir`, from the last checkpoint if any; it holds the overrides."""
    from xray_lazy.engine.run import RunOptions, run

    os.chdir(working_dir)
    run(RunOptions(str(Path(output_dir) / "config.yaml"), applied_overrides=list(overrides), resume=True))


if __name__ == "__main__":
    run_tool(lambda: main(*sys.argv[1:]))
