#!/usr/bin/env python
"""Export a trained model to a file that runs without detectron2 and this project, and check that it finds the same."""

import argparse
from pathlib import Path

from xray_lazy.command_line import parse_size, path, refuse_idle, run_tool, whole, word
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import UserError

ALONE = ("format", "precision", "allow_loss", "output", "weights", "ema", "size", "images", "count", "device")
EPILOG = """examples:
  tools/export.py output/mask_rcnn_r50                                  to ONNX, for images of any size
  tools/export.py output/mask_rcnn_r50 --size 1344x800                  for one size, which some runtimes want
  tools/export.py output/mask_rcnn_r50 --precision int8                 8-bit integers, for processors
  tools/export.py output/mask_rcnn_r50 --tune                           the fastest way to run it on this machine
  tools/export.py output/mask_rcnn_r50 --format torchscript --output deployed/detector.ts
  tools/export.py output/mask_rcnn_r50 model.roi_heads.box_predictor.test_score_thresh=0.3
  tools/export.py configs/xray/mask_rcnn_r50.py --weights model_final.pth --picture a.jpg --picture b.jpg

Exit codes: 0 done, 1 it can't be exported or does not agree with PyTorch, 2 something for you to fix."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="export.py OUTPUT_DIR",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--format", choices=("onnx", "openvino", "torchscript", "torch_export"), default="onnx", help="default: onnx"
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="of onnx and openvino (default: float32); int8 is calibrated on images of the training set",
    )
    parser.add_argument(
        "--calibration", type=whole(1), default=64, metavar="N", help="of these images for int8 (default: 64)"
    )
    parser.add_argument(
        "--allow-loss", action="store_true", help="write the file, too, where it loses more AP than it may"
    )
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="default: OUTPUT_DIR/exported/ and the weights' name"
    )
    parser.add_argument("--weights", type=path, metavar="FILE", help="default: the best of the run, else its last")
    parser.add_argument("--ema", action="store_true", help="the average of the weights, which hooks.ema kept")
    parser.add_argument(
        "--size",
        type=word,
        metavar="WxH",
        help="one size of the input, such as 1344x800 (default: any size; with torch_export that of the test images)",
    )
    parser.add_argument(
        "--picture",
        action="append",
        default=[],
        dest="images",
        type=path,
        metavar="FILE",
        help="to compare and calibrate on, instead of some of the data sets; may be given several times",
    )
    parser.add_argument(
        "--count", type=whole(1), default=3, metavar="N", help="of the test set to compare on (default: 3)"
    )
    parser.add_argument("--device", default="cpu", help="that TorchScript and torch.export stay on (default: cpu)")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="export what fast backends take, measure AP and speed of each on this machine, and keep the best for "
        "predict.py --backend fastest",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(options: argparse.Namespace, arguments: list[str]) -> None:
    options.size = parse_size(options.size, least=32) if options.size else None
    if not arguments or not Path(arguments[0]).exists():
        what = f"there is no {arguments[0]}" if arguments and "=" not in arguments[0] else "no output folder is given"
        raise UserError(what, "name a run before the overrides: export.py output/mask_rcnn_r50")
    source, *overrides = arguments
    if options.tune:
        refuse_idle(build_parser(), options, ALONE, "with --tune, which chooses by itself")
        if overrides:
            raise UserError(f"{overrides[0]} changes the model, and --tune is of the run as it is", "leave it out")
        from xray_lazy.prediction.backend_choice import tune

        tune(source, lambda line: print(line, flush=True), options.calibration)
        return
    from xray_lazy.export.export_model import ExportOptions, export_model

    settings = {name: value for name, value in vars(options).items() if name not in ("debug", "tune")}
    export_model(ExportOptions(source, overrides=overrides, **settings), report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    parsed, rest = parse_with_overrides(build_parser())
    run_tool(lambda: main(parsed, rest), parsed.debug)
