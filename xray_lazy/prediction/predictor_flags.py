"""Flags of the tools that detect with a `Predictor`: what runs, and which items count."""

import argparse

from xray_lazy.command_line import path, real, whole


def add_predictor_flags(parser: argparse.ArgumentParser) -> None:
    """Those that each of these tools has."""
    parser.add_argument(
        "--threshold",
        type=real(least=0, most=1),
        default=0.5,
        metavar="SCORE",
        help="leave out items below it (default: 0.5)",
    )
    parser.add_argument(
        "--operating-point",
        type=path,
        metavar="FILE",
        help="thresholds of the classes that `tools/analyze.py operating-point` chose, in place of --threshold",
    )
    parser.add_argument("--weights", type=path, metavar="FILE", help="other ones than the run's best; a file or URL")
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, or one of several: cuda:1")
    parser.add_argument("--batch-size", type=whole(1), default=8, metavar="N", help="images at once (default: 8)")
    parser.add_argument("--threads", type=whole(1), default=2, metavar="N", help="that read images (default: 2)")
