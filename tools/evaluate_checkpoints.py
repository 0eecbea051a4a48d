#!/usr/bin/env python
"""Evaluate the checkpoints of a run as training saves them, or afterwards; several at once share the work."""

import argparse
from pathlib import Path

from xray_lazy.command_line import real, run_tool, word
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_checkpoints.py OUTPUT_DIR",
        description=f"{__doc__} Results go into the run's evaluation folder, metrics.json, TensorBoard and W&B; the "
        "best weights are kept and training is ended early as the run's config says. Train with ~hooks.evaluation.",
        epilog="Exit codes: 0 done, 1 failure while running or no news from training, 2 something for you to fix.",
    )
    parser.add_argument("--order", choices=("oldest", "newest"), default="oldest", help="which goes first")
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, or one of several: cuda:1")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--follow", action="store_true", help="until training has ended (the default)")
    how_long.add_argument("--once", action="store_true", help="only what is there now")
    parser.add_argument(
        "--timeout",
        type=real(least=0),
        default=60,
        metavar="MINUTES",
        help="end without news for so long (default: 60)",
    )
    parser.add_argument("--job", type=word, metavar="ID", help="of the training: end with this job, not by --timeout")
    parser.add_argument(
        "--poll", type=real(above=0), default=10, metavar="SECONDS", help="between two looks (default: 10)"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, arguments: list[str]) -> None:
    if not arguments or (not Path(arguments[0]).is_dir() and "=" in arguments[0]):
        raise UserError("no output folder is given", "name it before the overrides: evaluate_checkpoints.py output/x")
    folder, *overrides = arguments
    if not Path(folder).is_dir():
        raise UserError(f"there is no run folder {folder}", "give the train.output_dir of a training")
    from xray_lazy.cluster.evaluator_job import watch_job
    from xray_lazy.engine.checkpoint_evaluation.worker import EvaluatorOptions, evaluate_checkpoints

    evaluate_checkpoints(
        folder,
        EvaluatorOptions(options.device, options.order, not options.once, 60 * options.timeout, options.poll),
        overrides,
        report=lambda line: print(line, flush=True),
        **({"job_goes_on": watch_job(folder, options.job)} if options.job else {}),
    )


if __name__ == "__main__":
    parsed, rest = parse_with_overrides(build_parser())
    run_tool(lambda: main(parsed, rest), parsed.debug)
