#!/usr/bin/env python
"""Search for good values of config keys: train many times, as a W&B sweep file says."""

import argparse
import dataclasses

from xray_lazy.cluster.cluster_profile import add_profile_flags, given_flags, load_profile
from xray_lazy.command_line import path, run_tool, whole
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="%(prog)s SWEEP.yaml --config-file FILE [FLAG ...]",
        description=__doc__,
        epilog="The same command goes on with a sweep that was interrupted, and started again, also on other machines "
        "that share the folder, works on it beside the others. "
        "Exit codes: 0 done, 1 failure while running, 2 something for you to fix.",
    )
    parser.add_argument(
        "--config-file", required=True, type=path, metavar="FILE", help="the LazyConfig that is trained"
    )
    parser.add_argument(
        "--num-gpus", type=whole(1), metavar="N", help="GPUs of each trial (default: one if there is one)"
    )
    parser.add_argument("--num-processes", type=whole(1), metavar="N", help="processes of each trial, on the CPU")
    parser.add_argument(
        "--trials-in-parallel",
        type=whole(1),
        default=1,
        metavar="K",
        help="trials at once on this machine (default: 1)",
    )
    parser.add_argument("--count", type=whole(1), metavar="N", help="trials in all, over all workers and resumes")
    parser.add_argument(
        "--output-dir", type=path, metavar="FOLDER", help="of the sweep (default: output/sweeps/ and the file's name)"
    )
    parser.add_argument(
        "--backend",
        choices=("optuna", "wandb"),
        default="optuna",
        help="who chooses the values: Optuna, here, or W&B's service (default: optuna)",
    )
    parser.add_argument("--sweep-id", metavar="ID", help="with --backend wandb: join the sweep that is there at W&B")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the space and a trial's command, and stop"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    add_profile_flags(parser, "trials as jobs of a cluster, --trials-in-parallel of them at once")
    return parser


def main(options: argparse.Namespace, sweep_file: str, overrides: list[str]) -> int:
    from xray_lazy.sweeps.run_sweep import SweepOptions, run_sweep

    launcher = cluster_launcher(options)
    settings = {entry.name: getattr(options, entry.name, None) for entry in dataclasses.fields(SweepOptions)}
    return run_sweep(SweepOptions(**{**settings, "sweep_file": sweep_file, "overrides": overrides}), launcher)


def cluster_launcher(options: argparse.Namespace):
    """What starts the trials as jobs, where the command line asks for that; the profile tells their processes."""
    flags = given_flags(options)
    if not options.cluster and all(value is None for value in flags.values()):
        return None
    from xray_lazy.cluster.trial_launcher import ClusterLauncher

    if options.backend == "wandb":
        raise UserError(
            "trials on a cluster are chosen by Optuna", "leave out --backend wandb; W&B shows them all the same"
        )
    if options.num_gpus or options.num_processes:
        flags |= {"gpus_per_node": options.num_gpus or 0, "tasks_per_node": options.num_processes or 1}
    profile = load_profile(options.cluster, flags)
    options.num_gpus = profile.gpus_per_node or None
    options.num_processes = None if profile.gpus_per_node else profile.tasks_per_node
    return ClusterLauncher(profile, options.trials_in_parallel)


def split_sweep_file(parser: argparse.ArgumentParser, words: list[str]) -> tuple[str, list[str]]:
    """The one word that is no override, and the overrides."""
    named = [word for word in words if "=" not in word]
    files = [word for word in named if word.endswith((".yaml", ".yml"))]
    if len(files) != 1:
        given = ", ".join(files or named) or "nothing"
        parser.error(f"give one sweep file, which ends in .yaml: configs/sweeps/mask_rcnn_bayes.yaml, not {given}")
    return files[0], [word for word in words if word != files[0]]


if __name__ == "__main__":
    arguments_parser = build_parser()
    arguments, rest = parse_with_overrides(arguments_parser)
    file, config_overrides = split_sweep_file(arguments_parser, rest)
    run_tool(lambda: main(arguments, file, config_overrides), arguments.debug)
