#!/usr/bin/env python
"""Write one HTML file with the story of a training, or of several side by side."""

import argparse

from xray_lazy.command_line import path, run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="""examples:
  python tools/report.py output/demo
  python tools/report.py output/mask_rcnn output/sparse_rcnn --output comparison.html

The file holds everything and fetches nothing: it can be sent or put on any web server. Images and error charts need
the data set where the run's config says, or under $XRAY_DATASETS. With several runs the first is what the others are
compared with. Exit codes: 0 done, 1 failure while running, 2 something for you to fix.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output_dir", type=path, metavar="OUTPUT_DIR", help="the train.output_dir of a training")
    parser.add_argument("others", nargs="*", default=[], type=path, metavar="OTHER", help="more of them, to compare")
    parser.add_argument("--output", type=path, metavar="FILE", help="of the report (default: OUTPUT_DIR/report.html)")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace) -> int:
    import logging

    from xray_lazy.report.write import write_report

    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.DEBUG if options.debug else logging.WARNING)
    path = write_report([options.output_dir, *options.others], options.output)
    print(f"report: {path} ({path.stat().st_size / 2**20:.1f} MB)")
    return 0


if __name__ == "__main__":
    arguments = build_parser().parse_args()
    run_tool(lambda: main(arguments), arguments.debug)
