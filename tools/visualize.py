#!/usr/bin/env python
"""Look at data sets, and into models."""

import argparse

from xray_lazy.command_line import is_override, path, paths_or_overrides, real, refuse_idle, run_tool, whole, word

DATA_EXAMPLES = """\
examples:
  visualize.py data xray_smith_val                          20 images at random, on a sheet and each by itself
  visualize.py data a.json a_images/ --class knife --size small --count 100
  visualize.py data xray_smith_val --ids 17 203             these; or --names 'bag_1*'
  visualize.py data --scanner smith --faulty                what tools/dataset.py check complains about
  visualize.py data --statistics                            all sets side by side, as charts, JSON and CSV
  visualize.py data --augmented --config-file configs/xray/mask_rcnn_r50.py --count 5 --draws 6
  visualize.py data --augmented --each --config-file my_experiment.py          and what each of its parts does alone
  visualize.py data xray_smith_val --browse                 hotcoco's browser
"""
FEATURES_EXAMPLES = """\
examples:
  visualize.py features output/mask_rcnn_r50 bag.png other_bags/
  visualize.py features output/sparse_rcnn --dataset xray_smith_val --count 3 --show stages attention
  visualize.py features configs/xray/mask_rcnn_r50.py bag.png --weights model.pth model.roi_heads.num_classes=13
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_data(commands)
    add_features(commands)
    return parser


def add_data(commands) -> None:
    """`data`: ground truth, augmentation, statistics."""
    parser = commands.add_parser(
        "data",
        help="ground truth, augmented images, statistics",
        description="Draw the ground truth of data sets, images as training sees them, or statistics.",
        epilog=DATA_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "named",
        nargs="*",
        default=[],
        type=path,
        metavar="SET",
        help="names (xray_smith_val), or ANNOTATIONS.json IMAGES_DIR; default: all under --root. With --config-file "
        "also KEY=VALUE for it",
    )
    parser.add_argument("--root", type=path, metavar="DIR", help="folder of the named sets (default: $XRAY_DATASETS)")
    parser.add_argument("--output", type=path, metavar="DIR", default="output/data", help="default: %(default)s")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--statistics", action="store_true", help="charts and numbers instead of images")
    what.add_argument("--augmented", action="store_true", help="images as training with --config-file sees them")
    what.add_argument("--browse", action="store_true", help="open hotcoco's browser on the chosen images")
    chosen = parser.add_argument_group("which images")
    chosen.add_argument("--count", type=whole(1), default=20, metavar="N", help="at most (default: %(default)s)")
    chosen.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of the random choice (default: 0)")
    chosen.add_argument("--ids", nargs="+", default=(), metavar="ID", help="with these ids in the JSON")
    chosen.add_argument("--names", nargs="+", default=(), metavar="NAME", help="with these files or patterns")
    chosen.add_argument("--class", nargs="+", default=(), dest="classes", metavar="CLASS", help="with items of these")
    chosen.add_argument(
        "--size",
        type=word,
        metavar="RANGE",
        help="with items that are small, medium, large (COCO's), or of 16-48 pixels' side",
    )
    chosen.add_argument("--scanner", nargs="+", default=(), metavar="NAME", help="of these scanners")
    chosen.add_argument("--split", nargs="+", default=(), metavar="NAME", help="of train, val or test")
    chosen.add_argument("--faulty", action="store_true", help="with errors or warnings of tools/dataset.py check")
    chosen.add_argument(
        "--fault-kind", nargs="+", default=(), metavar="KIND", help="with these: box_beyond mask_missing"
    )
    drawn = parser.add_argument_group("how they are drawn")
    drawn.add_argument("--grey", action="store_true", help="on a ground without colours")
    drawn.add_argument("--columns", type=whole(1), default=4, metavar="N", help="of a sheet (default: %(default)s)")
    drawn.add_argument("--config-file", type=path, metavar="FILE", help="whose training augments (with --augmented)")
    drawn.add_argument("--draws", type=whole(1), default=4, metavar="N", help="of each image (default: %(default)s)")
    drawn.add_argument("--each", action="store_true", help="each part of the augmentation by itself, too")
    drawn.add_argument(
        "--port", type=whole(1, 65535), default=7860, metavar="N", help="of --browse (default: %(default)s)"
    )
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(run=run_data, parser=parser)


# Of `data`: what has no effect in each of its modes.
CHOICE = ("ids", "names", "classes", "size")
FAULTS = ("faulty", "fault_kind")
DRAWN = ("grey", "columns")
OF_TRAINING = ("config_file", "overrides", "draws", "each")
IDLE = {
    "statistics": (*CHOICE, "count", "seed", *FAULTS, *DRAWN, *OF_TRAINING, "port"),
    "augmented": (*FAULTS, *DRAWN, "port"),
    "browse": (*FAULTS, "count", "seed", "output", *DRAWN, *OF_TRAINING),
}


def check_effects(options: argparse.Namespace) -> None:
    """Raises: UserError: an option that has no effect beside the others."""
    mode = next((mode for mode in IDLE if getattr(options, mode)), None)
    beside = f"with --{mode}" if mode else "without --augmented, --statistics or --browse"
    refuse_idle(options.parser, options, IDLE[mode] if mode else (*OF_TRAINING, "port"), beside)
    if mode == "augmented" and not options.named:
        refuse_idle(options.parser, options, ("root", "scanner", "split"), "with the set of --config-file")


def run_data(options: argparse.Namespace) -> None:
    from xray_lazy.utils.results_place import sole_writer
    from xray_lazy.visualization.data_report import data_report
    from xray_lazy.visualization.image_choice import Choice, parse_size_range

    check_effects(options)
    size = parse_size_range(options.size) if options.size else None
    request = data_report.DataRequest(
        sets=options.named,
        root=options.root,
        scanners=options.scanner,
        splits=options.split,
        choice=Choice(options.ids, options.names, options.classes, size),
        count=options.count,
        seed=options.seed,
        columns=options.columns,
        grey=options.grey,
        faulty=options.faulty,
        fault_kinds=options.fault_kind,
        config_file=options.config_file,
        overrides=options.overrides,
        draws=options.draws,
        each_part=options.each,
    )
    if options.browse:
        data_report.show_browser(request, options.port)
        return
    show = data_report.show_images
    if options.augmented or options.statistics:
        show = data_report.show_augmented if options.augmented else data_report.show_statistics
    with sole_writer(options.output):
        show(request, options.output, print)


def add_features(commands) -> None:
    """`features`: what a model sees."""
    parser = commands.add_parser(
        "features",
        help="feature maps, proposals, stages, attention, class activation",
        description="Look into a model at work on images: feature maps, proposal boxes and how they move, attention, "
        "and what speaks for each class.",
        epilog=FEATURES_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=path, metavar="SOURCE", help="the output folder of a training, or a config file")
    parser.add_argument(
        "named",
        nargs="*",
        default=[],
        type=path,
        metavar="IMAGE",
        help="files and folders of images, and KEY=VALUE for the config",
    )
    parser.add_argument("--dataset", type=path, metavar="SET", help="images of this set, with their ground truth")
    parser.add_argument("--root", type=path, metavar="DIR", help="folder of the named sets (default: $XRAY_DATASETS)")
    parser.add_argument("--count", type=whole(1), default=4, metavar="N", help="images at most (default: %(default)s)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of their choice (default: 0)")
    parser.add_argument("--weights", type=path, metavar="FILE", help="file or URL (default: the run's best)")
    parser.add_argument("--device", default="auto", help="auto (the default), cpu or cuda:1")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="default: visualizations/features in the run's folder"
    )
    parser.add_argument(
        "--show",
        nargs="+",
        default=(),
        metavar="WHAT",
        help="of levels, proposals, stages, attention, activation (default: all that the model has)",
    )
    parser.add_argument(
        "--top", type=whole(1), default=30, metavar="N", help="proposals to draw (default: %(default)s)"
    )
    parser.add_argument(
        "--score-threshold",
        type=real(least=0, most=1),
        default=0.5,
        metavar="S",
        help="of detections (default: %(default)s)",
    )
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.set_defaults(run=run_features)


def run_features(options: argparse.Namespace) -> None:
    from xray_lazy.inspection.features import FeaturesRequest, inspect_features

    request = FeaturesRequest(
        source=options.source,
        images=options.named,
        dataset=options.dataset,
        root=options.root,
        count=options.count,
        seed=options.seed,
        weights=options.weights,
        overrides=options.overrides,
        device=options.device,
        output=options.output,
        show=options.show,
        top=options.top,
        score_threshold=options.score_threshold,
    )
    inspect_features(request, print)


def parse() -> argparse.Namespace:
    """The command line; what is named may come before, between and after the flags."""
    parser = build_parser()
    options, rest = parser.parse_known_args()
    rest = paths_or_overrides(parser, rest)
    unknown = [text for text in rest if text.startswith("-")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.overrides = [text for text in rest if is_override(text)]
    for name, values in list(vars(options).items()):
        if (
            isinstance(values, list) and name != "overrides"
        ):  # a flag of several values takes overrides behind them, too
            options.overrides += [text for text in values if is_override(text)]
            setattr(options, name, [text for text in values if text not in options.overrides])
    options.named = [*options.named, *(text for text in rest if text not in options.overrides)]
    return options


if __name__ == "__main__":
    arguments = parse()
    run_tool(lambda: arguments.run(arguments), arguments.debug)
