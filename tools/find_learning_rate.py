#!/usr/bin/env python
"""Find a learning rate for a config: train briefly with growing rates and look where the loss falls."""

import argparse

from xray_lazy.command_line import path, real, run_tool, whole
from xray_lazy.config.arguments import parse_with_overrides


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="It trains in memory only: no run and no checkpoint is touched."
    )
    parser.add_argument(
        "--config-file", required=True, type=path, metavar="FILE", help="a LazyConfig, or a run's config.yaml"
    )
    parser.add_argument("--iterations", type=whole(2), default=100, metavar="N", help="rates to try (default: 100)")
    parser.add_argument("--lowest", type=real(above=0), default=1e-6, metavar="LR", help="first rate (default: 1e-6)")
    parser.add_argument("--highest", type=real(above=0), default=1.0, metavar="LR", help="last rate (default: 1)")
    parser.add_argument(
        "--output",
        type=path,
        metavar="FOLDER",
        help="for table and plot (default: train.output_dir with _learning_rate)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, overrides: list[str]) -> None:
    from pathlib import Path

    from xray_lazy.engine.searches.search_set_up import load_for_search

    cfg, device = load_for_search(options.config_file, overrides)
    from xray_lazy.engine.searches.learning_rate_search import LEAST_RATES, run_range_test, save_range_test
    from xray_lazy.utils.results_place import check_result_folder

    folder = Path(options.output or f"{cfg.train.output_dir}_learning_rate")
    check_result_folder(folder)
    result = run_range_test(cfg, device, options.lowest, options.highest, options.iterations)
    for written in save_range_test(result, folder):
        print(f"wrote {written}")
    if (tried := len(result.rates)) < LEAST_RATES:
        print(f"no suggestion: {tried} rates don't tell a fall from chance; try more --iterations, or a lower --lowest")
    elif result.suggestion is None:
        print("the loss fell at no rate: try a lower --lowest or more --iterations, and look at the plot")
    else:
        print(f"suggestion: optimizer.lr={result.suggestion:.2g}")


if __name__ == "__main__":
    arguments, config_overrides = parse_with_overrides(build_parser())
    run_tool(lambda: main(arguments, config_overrides), arguments.debug)
