#!/usr/bin/env python
"""Send to W&B what was recorded without it: offline, or while its server was away."""

import argparse

from xray_lazy.command_line import path, real, run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Each row is sent once, whatever W&B has already. The runs must have ended."
    )
    parser.add_argument("folders", nargs="+", type=path, metavar="FOLDER", help="the output folder of a training")
    parser.add_argument(
        "--timeout",
        type=real(least=0),
        default=300,
        metavar="S",
        help="seconds to send what was cut off (default: 300)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace) -> None:
    import logging

    from xray_lazy.tracking.wandb_sync import send_runs

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    send_runs(options.folders, options.timeout)


if __name__ == "__main__":
    arguments = build_parser().parse_args()
    run_tool(lambda: main(arguments), arguments.debug)
