#!/usr/bin/env python
"""Find the largest batch that a GPU can train with a config."""

import argparse

from xray_lazy.command_line import path, real, run_tool, whole
from xray_lazy.config.arguments import parse_with_overrides


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="It trains in memory only: no run and no checkpoint is touched. It needs a GPU."
    )
    parser.add_argument(
        "--config-file", required=True, type=path, metavar="FILE", help="a LazyConfig, or a run's config.yaml"
    )
    parser.add_argument(
        "--steps", type=whole(1), default=10, metavar="N", help="steps with each batch size (default: 10)"
    )
    parser.add_argument(
        "--margin",
        type=real(least=0, below=1),
        default=0.1,
        metavar="SHARE",
        help="of the memory, to stay free (default: 0.1)",
    )
    parser.add_argument("--limit", type=whole(1), default=512, metavar="N", help="try no more images (default: 512)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, overrides: list[str]) -> None:
    from xray_lazy.engine.searches.search_set_up import load_for_search

    cfg, _ = load_for_search(options.config_file, overrides, needs_gpu=True)
    from xray_lazy.engine.searches.batch_size_search import find_batch_size

    size = find_batch_size(cfg, options.steps, options.margin, options.limit)
    print(f"dataloader.train.total_batch_size={size} for one GPU; with N GPUs, N times as much")


if __name__ == "__main__":
    arguments, config_overrides = parse_with_overrides(build_parser())
    run_tool(lambda: main(arguments, config_overrides), arguments.debug)
