#!/usr/bin/env python
"""Serve a trained or an exported model: a page to look at scans and correct what is found, and an HTTP API."""

import argparse
import dataclasses
import os

from xray_lazy.command_line import path, real, refuse_idle, run_tool, whole, word
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import UserError
from xray_lazy.prediction.predictor_flags import add_predictor_flags

EXAMPLES = """\
examples:
  serve.py output/mask_rcnn_r50
  serve.py output/mask_rcnn_r50 --operating-point operating_point.json --corrections datasets/corrected
  serve.py exported/mask_rcnn_r50.onnx --port 8080 --queue 16
  curl -F files=@bag.png http://127.0.0.1:8000/api/detect

exit codes: 0 ended by Ctrl-C or a signal; 1 failure while running; 2 something for you to fix
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="%(prog)s MODEL [FLAG ...]",
        description=f"{__doc__} MODEL is the output folder of a training, a config file with --weights, or a file that "
        "tools/export.py wrote.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", type=word, default="127.0.0.1", help="%(default)s, this machine alone, is the default"
    )
    parser.add_argument("--port", type=whole(0, 65535), default=8000, help="default: %(default)s; 0 takes a free one")
    parser.add_argument(
        "--corrections",
        type=path,
        default="output/corrections",
        metavar="DIR",
        help="where a COCO set of what people correct is kept (default: %(default)s)",
    )
    add_predictor_flags(parser)
    parser.add_argument(
        "--queue", type=whole(1), default=64, metavar="N", help="requests at once; more get 503 (default: 64)"
    )
    parser.add_argument(
        "--max-megabytes", type=real(above=0, most=4096), default=64, metavar="MB", help="of a request (default: 64)"
    )
    parser.add_argument(
        "--max-megapixels",
        type=real(above=0, most=1000),
        default=50,
        metavar="MP",
        help="of an image, times its channels (default: 50)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(arguments: argparse.Namespace, words: list[str]) -> None:
    if not words:
        raise UserError("no model is given", "serve.py MODEL: the output folder of a training, or an exported model")
    if arguments.operating_point:
        refuse_idle(build_parser(), arguments, ["threshold"], "beside --operating-point")
    # also where a header tells of fewer pixels than its decoder makes; OpenCV reads it when it is imported
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(int(arguments.max_megapixels * 1e6))
    from xray_lazy.prediction.serving.run_server import ServeOptions, run_server

    fields = {entry.name for entry in dataclasses.fields(ServeOptions)}
    settings = {name: value for name, value in vars(arguments).items() if name in fields}
    run_server(ServeOptions(words[0], words[1:], **settings))


if __name__ == "__main__":
    parsed, rest_of_line = parse_with_overrides(build_parser())
    run_tool(lambda: main(parsed, rest_of_line), parsed.debug)
