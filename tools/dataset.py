#!/usr/bin/env python
"""Make, check, repair, split and convert COCO-format X-ray data sets."""

import argparse

from xray_lazy.command_line import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo(commands)
    add_check(commands)
    add_repair(commands)
    add_split(commands)
    add_convert(commands)
    return parser


def add_demo(commands) -> None:
    """`demo`: a synthetic set."""
    parser = commands.add_parser("demo", help="generate a synthetic X-ray set")
    parser.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> int:
    raise NotImplementedError


def add_check(commands) -> None:
    """`check`: every fault of a set."""
    parser = commands.add_parser("check", help="report every fault of a COCO set")
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    raise NotImplementedError


def add_repair(commands) -> None:
    """`repair`: what can be fixed without guessing."""
    parser = commands.add_parser("repair", help="fix what can be fixed without guessing")
    parser.set_defaults(run=run_repair)


def run_repair(options: argparse.Namespace) -> int:
    raise NotImplementedError


def add_split(commands) -> None:
    """`split`: train, val and test."""
    parser = commands.add_parser("split", help="split sets into train, val and test")
    parser.set_defaults(run=run_split)


def run_split(options: argparse.Namespace) -> int:
    raise NotImplementedError


def add_convert(commands) -> None:
    """`convert`: other formats to COCO."""
    parser = commands.add_parser("convert", help="convert VOC, YOLO or labelme to COCO")
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> int:
    raise NotImplementedError


if __name__ == "__main__":
    arguments = build_parser().parse_args()
    run_tool(lambda: arguments.run(arguments), arguments.debug)
