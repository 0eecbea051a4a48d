#!/usr/bin/env python
"""Train or evaluate what a LazyConfig describes, on one or more processes."""

import argparse

from xray_lazy.command_line import path, run_tool, whole
from xray_lazy.config.arguments import parse_with_overrides


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit codes: 0 done, 1 failure while running, 2 something for you to fix.",
    )
    parser.add_argument(
        "--config-file", required=True, type=path, metavar="FILE", help="a LazyConfig, or a run's config.yaml"
    )
    parser.add_argument(
        "--preset",
        action="append",
        dest="presets",
        default=[],
        metavar="NAME",
        help="apply configs/presets/NAME.yaml before the overrides: one_batch, overfit, profile or anomaly",
    )
    parser.add_argument(
        "--num-gpus", type=whole(1), metavar="N", help="GPUs on this machine (default: one if there is one)"
    )
    parser.add_argument("--num-processes", type=whole(1), metavar="N", help="processes on the CPU, data-parallel")
    parser.add_argument("--num-machines", type=whole(1), default=1, metavar="N", help="machines in the run")
    parser.add_argument("--machine-rank", type=whole(0), default=0, metavar="R", help="number of this machine, from 0")
    parser.add_argument("--dist-url", default="auto", metavar="URL", help="tcp://HOST:PORT of machine 0")
    parser.add_argument("--resume", action="store_true", help="go on from the output folder's last checkpoint, if any")
    parser.add_argument("--eval-only", action="store_true", help="evaluate train.init_checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the resolved config, and stop")
    parser.add_argument("--overwrite", action="store_true", help="let another run's output folder be used")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, overrides: list[str]) -> None:
    from xray_lazy.engine.run import RunOptions, run

    settings = {name: value for name, value in vars(options).items() if name != "debug"}
    run(RunOptions(**settings, overrides=overrides))


if __name__ == "__main__":
    arguments, config_overrides = parse_with_overrides(build_parser())
    run_tool(lambda: main(arguments, config_overrides), arguments.debug)
