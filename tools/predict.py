#!/usr/bin/env python
"""Detect items in images and videos with a trained or an exported model."""

import argparse
import dataclasses

from xray_lazy.command_line import is_override, path, refuse_idle, run_tool, whole, word
from xray_lazy.config.arguments import parse_with_overrides
from xray_lazy.errors import UserError
from xray_lazy.prediction.predictor_flags import add_predictor_flags

EXAMPLES = """\
INPUT is an image, a video, a folder, a pattern in quotes, a COCO file, or the name of a data set.

examples:
  predict.py output/mask_rcnn_r50 bag.png scans/ 'more/**/*.jpg'
  predict.py output/mask_rcnn_r50 belt.mp4 --threshold 0.7 --grey
  predict.py output/mask_rcnn_r50 xray_smith_val --ground-truth datasets/xray/annotations/smith/val.json
  predict.py output/mask_rcnn_r50 val.json --image-root scans --threshold 0 --no-pictures
  predict.py output/mask_rcnn_r50 scans/ --weights output/mask_rcnn_r50/model_0009999.pth
  predict.py output/mask_rcnn_r50 scans/ model.roi_heads.box_predictor.test_nms_thresh=0.3
  predict.py output/mask_rcnn_r50 scans/ --operating-point operating_point.json
  predict.py output/mask_rcnn_r50 scans/ --backend fastest
  predict.py exported/mask_rcnn_r50.onnx scans/
  predict.py output/mask_rcnn_r50 scans/ --threshold 0.3 --pre-annotations label_studio
  predict.py output/mask_rcnn_r50 unlabelled/ --pseudo-labels --operating-point operating_point.json --no-pictures

exit codes: 0 done, also where some images had to be skipped; 1 failure while running; 2 something for you to fix, or
none of the images could be read
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="%(prog)s MODEL INPUT [INPUT ...] [FLAG ...]",
        description=f"{__doc__} MODEL is the output folder of a training, a config file with --weights, or a file that "
        "tools/export.py wrote.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", default="output/predictions", type=path, metavar="DIR", help="default: %(default)s")
    add_predictor_flags(parser)
    parser.add_argument(
        "--backend",
        type=word,
        metavar="NAME",
        help="how to run an output folder: fastest (see export.py --tune), pytorch (the default), pytorch_bfloat16, "
        "onnx, onnx_int8, openvino, openvino_bfloat16 or openvino_int8",
    )
    parser.add_argument(
        "--tile-width",
        type=whole(1),
        metavar="PIXELS",
        help="look at wider images, such as a belt with several bags, by tiles that overlap",
    )
    parser.add_argument(
        "--tile-overlap",
        type=whole(0),
        metavar="PIXELS",
        help="of tiles, as wide as the widest item (default: a quarter of the tile)",
    )
    parser.add_argument(
        "--group-by",
        type=word,
        metavar="REGEX",
        help="images for which the first group of this expression in the file name is equal are one bag, of which "
        "bags.csv has a line (default: as the operating point, else the bags of a COCO file)",
    )
    parser.add_argument(
        "--image-root", type=path, metavar="DIR", help="of a COCO file's images (default: images/ beside it)"
    )
    parser.add_argument(
        "--ground-truth", type=path, metavar="JSON", help="COCO file that is drawn beside the predictions"
    )
    parser.add_argument("--grey", action="store_true", help="draw on a grey image, so that only items have colours")
    parser.add_argument(
        "--no-pictures", dest="overlays", action="store_false", help="write only JSON and CSV, no images and videos"
    )
    parser.add_argument(
        "--video-format",
        choices=("mp4", "webm"),
        default="mp4",
        help="mp4 (the default), or webm: plays in browsers, too; slower to write",
    )
    parser.add_argument(
        "--pre-annotations",
        choices=("yolo", "yolo_segment", "voc", "labelme", "cvat", "label_studio"),
        metavar="FORMAT",
        help="also write what is found in images as labels that people can correct, with scores where the format has "
        "them: label_studio, cvat, labelme, voc, yolo or yolo_segment",
    )
    parser.add_argument(
        "--threat-reports",
        action="store_true",
        help="also write a DICOS threat detection report of each image: ALARM where anything was found, else NO_ALARM",
    )
    parser.add_argument(
        "--pseudo-labels",
        action="store_true",
        help="also write what is found in the mirrored image, too, as a set to train on, whose images have weights",
    )
    parser.add_argument(
        "--second-model", type=path, metavar="MODEL", help="that has to find it, too; for --pseudo-labels"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def main(arguments: argparse.Namespace, words: list[str]) -> None:
    overrides = [word for word in words if is_override(word)]
    rest = [word for word in words if word not in overrides]
    if len(rest) < 2:
        raise UserError(
            "no model is given" if not rest else f"no input is given for the model {rest[0]}",
            "predict.py MODEL INPUT: the output folder of a training, then images",
        )
    if arguments.operating_point:
        refuse_idle(build_parser(), arguments, ["threshold"], "beside --operating-point")
    if not arguments.pseudo_labels:
        refuse_idle(build_parser(), arguments, ["second_model"], "without --pseudo-labels")
    if not arguments.overlays:
        refuse_idle(build_parser(), arguments, ("grey", "video_format"), "with --no-pictures")
    if arguments.tile_width is None:
        refuse_idle(build_parser(), arguments, ["tile_overlap"], "without --tile-width")
    from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction

    fields = {entry.name for entry in dataclasses.fields(PredictOptions)}
    settings = {name: value for name, value in vars(arguments).items() if name in fields}
    run_prediction(PredictOptions(model=rest[0], inputs=rest[1:], overrides=overrides, **settings))


if __name__ == "__main__":
    parsed, rest_of_line = parse_with_overrides(build_parser())
    run_tool(lambda: main(parsed, rest_of_line), parsed.debug)
