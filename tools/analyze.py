#!/usr/bin/env python
"""Analyze what a model gets wrong, compare two runs, choose what to label next, and measure what a model costs."""

import argparse

from xray_lazy.command_line import parse_size, path, real, refuse_idle, run_tool, whole, word
from xray_lazy.errors import UserError

EXAMPLES = """examples:
  python tools/analyze.py detections output/x
  python tools/analyze.py detections output/x --evaluation iter_4999
  python tools/analyze.py detections --predictions results.json --ground-truth val.json --images val/
  python tools/analyze.py compare output/x output/y
  python tools/analyze.py screening output/x
  python tools/analyze.py screening output/x output/y --group-by '^(bag[0-9]+)_'
  python tools/analyze.py fuse-views output/x --belt-axis x
  python tools/analyze.py operating-point output/x --false-alarms 5
  python tools/analyze.py screening output/x_on_test --operating-point operating_point.json
  python tools/analyze.py protocol pidray output/x
  python tools/analyze.py next output/x unlabelled/ --count 100
  python tools/analyze.py scale output/x scans/new_scanner
  python tools/analyze.py model output/x
  python tools/analyze.py model configs/xray/mask_rcnn_r50.py --size 1333x800
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_detections(commands)
    add_compare(commands)
    add_screening(commands)
    add_fuse_views(commands)
    add_operating_point(commands)
    add_protocol(commands)
    add_next(commands)
    add_scale(commands)
    add_model(commands)
    return parser


def add_detections(commands) -> None:
    """`detections`: what is wrong, and where."""
    parser = commands.add_parser(
        "detections",
        help="errors, curves, calibration, worst images, suspected labels",
        description="Analyze an evaluation of a run, or any COCO results: TIDE's errors, confusions, curves with the "
        "best thresholds, calibration, AP by size, scanner and overlap, the worst images, suspected label errors.",
    )
    parser.add_argument("run", nargs="?", type=path, metavar="OUTPUT_DIR", help="of a training; or give --predictions")
    parser.add_argument("--predictions", type=path, metavar="FILE", help="COCO results as JSON; needs --ground-truth")
    add_evaluation(parser)
    parser.add_argument(
        "--score-threshold",
        type=real(least=0, most=1),
        metavar="SCORE",
        help="that counts for confusions and images (default: the one of the highest F1)",
    )
    parser.add_argument(
        "--count", type=whole(0), default=12, metavar="N", help="images drawn of each kind (default: 12)"
    )
    parser.set_defaults(run_command=run_detections, parser=parser)


def add_truth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ground-truth", type=path, metavar="SET", help="a name, or a COCO JSON (default: what the run's config has)"
    )
    parser.add_argument("--images", type=path, metavar="DIR", help="images of a JSON's ground truth, to draw them")
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="for the results (default: analysis/ in the run's folder)"
    )
    parser.add_argument(
        "--max-detections",
        type=whole(1),
        metavar="N",
        help="how many of a class count on an image, the best first (default: as in the evaluation, COCO's 100)",
    )


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evaluation", default="best", metavar="NAME", help="best (default), newest, or iter_4999")
    add_truth(parser)


def add_evaluation_of_both(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evaluation", default="best", metavar="NAME", help="of both: best (default), newest, iter_4999"
    )
    add_truth(parser)


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resamples", type=whole(100, 1_000_000), default=1000, metavar="N", help="default: 1000")
    add_confidence(parser)


def add_confidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--confidence", type=real(above=0, below=1), default=0.95, metavar="SHARE", help="default: 0.95"
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="default: 0")


def run_detections(options: argparse.Namespace) -> None:
    if (options.run is None) == (options.predictions is None):
        raise UserError("give either OUTPUT_DIR or --predictions", "tools/analyze.py detections output/x")
    if options.predictions and not options.ground_truth:
        raise UserError("--predictions needs --ground-truth", "name a data set or its JSON file")
    if options.predictions:
        refuse_idle(options.parser, options, ["evaluation"], "with --predictions")
    refuse_idle_images(options)
    from pathlib import Path

    from xray_lazy.analysis.analysis_console import print_analysis
    from xray_lazy.analysis.analyzing import analyze
    from xray_lazy.analysis.drawn_images import draw_images
    from xray_lazy.analysis.files import write_analysis
    from xray_lazy.analysis.inputs import inputs_of_files, inputs_of_run
    from xray_lazy.utils.results_place import check_json_file, sole_writer

    truth = (options.ground_truth, options.images, options.max_detections)
    if options.predictions:
        inputs = inputs_of_files(options.predictions, *truth)
    else:
        inputs = inputs_of_run(options.run, options.evaluation, *truth)
    folder = options.output or inputs.folder
    check_json_file(Path(folder) / "analysis.json", "an analysis", "schema")
    with sole_writer(folder):
        analysis = draw_images(analyze(inputs, options.score_threshold), inputs, folder, options.count)
        print_analysis(analysis, write_analysis(analysis, folder))


def refuse_idle_images(options: argparse.Namespace) -> None:
    if not (options.ground_truth or "").endswith(".json"):
        refuse_idle(options.parser, options, ["images"], "without a JSON file as --ground-truth")


def add_compare(commands) -> None:
    """`compare`: two runs."""
    parser = commands.add_parser(
        "compare",
        help="is one run better than another, beyond chance?",
        description="Compare two runs on the same images by a paired bootstrap over bags, metric by metric.",
    )
    parser.add_argument("first", type=path, metavar="FIRST", help="OUTPUT_DIR, or a JSON file of COCO results")
    parser.add_argument("second", type=path, metavar="SECOND", help="likewise")
    add_evaluation_of_both(parser)
    add_bootstrap(parser)
    parser.set_defaults(run_command=run_compare, parser=parser)


def run_compare(options: argparse.Namespace) -> None:
    from pathlib import Path

    from xray_lazy.analysis.analysis_console import print_comparison
    from xray_lazy.analysis.comparison import compare
    from xray_lazy.analysis.files import write_comparison
    from xray_lazy.utils.results_place import check_json_file, sole_writer

    refuse_idle_images(options)
    refuse_idle_evaluation(options, options.first, options.second)
    first, second = read_inputs(options, options.first), read_inputs(options, options.second)
    folder = options.output or second.folder / f"compared_with_{Path(options.first).resolve().stem}"
    check_json_file(Path(folder) / "comparison.json", "a comparison", "schema")
    with sole_writer(folder):
        found = compare(first, second, options.resamples, options.confidence, options.seed)
        print_comparison(found, write_comparison(found, folder))


def is_results_file(run: str) -> bool:
    """COCO results, and not a run's folder."""
    from pathlib import Path

    return run.endswith(".json") and not Path(run).is_dir()


def refuse_idle_evaluation(options: argparse.Namespace, *runs: str) -> None:
    if all(map(is_results_file, runs)):
        refuse_idle(options.parser, options, ["evaluation"], "on COCO results: they are of one")


def read_inputs(options: argparse.Namespace, run: str):
    """Of a run's folder, or of COCO results in a JSON file."""
    from xray_lazy.analysis.inputs import inputs_of_files, inputs_of_run

    truth = (options.ground_truth, options.images, options.max_detections)
    if not is_results_file(run):
        return inputs_of_run(run, options.evaluation, *truth)
    if not options.ground_truth:
        raise UserError(f"{run} needs --ground-truth", "name a data set or its JSON file")
    return inputs_of_files(run, *truth)


def add_screening(commands) -> None:
    """`screening`: detection against false alarms."""
    parser = commands.add_parser(
        "screening",
        help="detection against false alarms, per bag",
        description="P_D at P_FA: of the bags with a threat, which share alarms at it when at most that percentage of "
        "the clean bags do, over all classes and for each, with intervals.",
    )
    parser.add_argument("run", type=path, metavar="RUN", help="an output folder, or COCO results (.json)")
    parser.add_argument("other", nargs="?", type=path, metavar="OTHER", help="to compare on the same bags")
    add_evaluation_of_both(parser)
    parser.add_argument(
        "--false-alarms",
        nargs="+",
        type=real(above=0, below=100),
        default=[1, 2, 5, 10],
        metavar="PERCENT",
        help="P_FA to look at (default: 1 2 5 10)",
    )
    add_bags(parser)
    add_fusion(parser)
    parser.add_argument(
        "--operating-point", type=path, metavar="FILE", help="to judge on these bags; see operating-point"
    )
    add_bootstrap(parser)
    parser.set_defaults(run_command=run_screening, parser=parser)


def add_bags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        type=word,
        metavar="REGEX",
        help="images for which the first group of this expression in the file name is equal are one bag, "
        "e.g. '^(bag[0-9]+)_'",
    )
    parser.add_argument(
        "--hit", choices=["iou", "centre"], default="iou", help="what makes a detection one of an item (default: iou)"
    )
    parser.add_argument(
        "--iou", type=real(above=0, most=1), metavar="SHARE", help="that is enough for --hit iou (default: 0.5)"
    )


def add_fusion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--view-fusion",
        type=path,
        metavar="FILE",
        help="weights for the views of a bag, of fuse-views (default: a bag alarms by the best score of any view)",
    )


def fused(options: argparse.Namespace, inputs, content=None, path: str = ""):
    """The inputs with fused scores where weights are given, and the weights."""
    from xray_lazy.analysis.screening.fused_views import with_fused_views
    from xray_lazy.evaluation.screening.view_fusion import read_fusion

    if options.view_fusion:
        content, path = read_fusion(options.view_fusion), options.view_fusion
    return (with_fused_views(inputs, content, path, options.group_by), content) if content else (inputs, None)


def hit_rule(options: argparse.Namespace):
    from xray_lazy.evaluation.screening.bags import HitRule

    if options.hit == "centre":
        refuse_idle(options.parser, options, ["iou"], "with --hit centre")
    return HitRule(options.hit, 0.5 if options.iou is None else options.iou)


def run_screening(options: argparse.Namespace) -> None:
    refuse_idle_images(options)
    refuse_idle_evaluation(options, *filter(None, (options.run, options.other)))
    if options.other:
        refuse_idle(options.parser, options, ["operating_point"], "beside OTHER: it is of one model")
    rule = hit_rule(options)
    from pathlib import Path

    from xray_lazy.analysis.screening.operating_point import OperatingPoint
    from xray_lazy.analysis.screening.screening import screen_inputs
    from xray_lazy.analysis.screening.screening_files import print_screening, write_screening
    from xray_lazy.utils.results_place import check_json_file, sole_writer

    if options.operating_point:
        refuse_idle(options.parser, options, ["view_fusion"], "beside --operating-point, which has its own or none")
    point = OperatingPoint.read(options.operating_point) if options.operating_point else None
    weights = (point.view_fusion, point.path) if point else ()
    inputs, _ = fused(options, read_inputs(options, options.run), *weights)
    other = fused(options, read_inputs(options, options.other))[0] if options.other else None
    folder = options.output or inputs.folder / "screening"
    check_json_file(Path(folder) / "screening.json", "a screening", "schema")
    with sole_writer(folder):
        found = screen_inputs(
            inputs,
            other,
            rule,
            options.group_by,
            sorted({rate / 100 for rate in options.false_alarms}),
            options.resamples,
            options.confidence,
            options.seed,
            point,
        )
        print_screening(found, write_screening(found, folder))


def add_fuse_views(commands) -> None:
    """`fuse-views`: weights for the views of bags."""
    parser = commands.add_parser(
        "fuse-views",
        help="learn how much the views of a bag say together",
        description="Fit, on a validation set, how likely a detection is right by its score and by that of its "
        "counterpart in another view of the bag. screening and operating-point --view-fusion take such scores in place "
        "of each view's own, and so do evaluations by dataloader.evaluator.screening.view_fusion.",
    )
    parser.add_argument("run", type=path, metavar="RUN", help="an output folder, or COCO results (.json)")
    add_evaluation(parser)
    parser.add_argument(
        "--belt-axis",
        choices=["x", "y", "none"],
        default="none",
        help="of the images that runs along the belt, which views at right angles share: the counterpart lies between "
        "the same places of it; none (the default): anywhere",
    )
    add_bags(parser)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of the folds of bags (default: 0)")
    parser.set_defaults(run_command=run_fuse_views, parser=parser)


def run_fuse_views(options: argparse.Namespace) -> None:
    refuse_idle_images(options)
    refuse_idle_evaluation(options, options.run)
    rule = hit_rule(options)
    from pathlib import Path

    from xray_lazy.analysis.screening.fused_views import fit_views, write_views
    from xray_lazy.analysis.screening.screening_text import print_views
    from xray_lazy.evaluation.screening.view_fusion import FILE_NAME
    from xray_lazy.utils.results_place import check_json_file

    inputs = read_inputs(options, options.run)
    folder = Path(options.output or inputs.folder)
    check_json_file(folder / FILE_NAME, "weights for views", "schema", "axis")
    found = fit_views(inputs, rule, options.group_by, options.belt_axis, options.seed)
    print_views(found, write_views(found, options.group_by, folder))


def add_operating_point(commands) -> None:
    """`operating-point`: thresholds to work with."""
    parser = commands.add_parser(
        "operating-point",
        help="thresholds of the classes for a rate of false alarms",
        description="Choose a threshold for each class, all together, so that at most a given share of the clean "
        "bags alarm and as many threats as possible are detected. tools/predict.py --operating-point applies them, "
        "screening --operating-point judges them on a test set.",
    )
    parser.add_argument("run", type=path, metavar="RUN", help="an output folder, or COCO results (.json)")
    add_evaluation(parser)
    parser.add_argument(
        "--false-alarms",
        type=real(above=0, below=100),
        default=5,
        metavar="PERCENT",
        help="of the clean bags that may alarm (default: 5)",
    )
    add_bags(parser)
    add_fusion(parser)
    add_confidence(parser)
    parser.set_defaults(run_command=run_operating_point, parser=parser)


def run_operating_point(options: argparse.Namespace) -> None:
    refuse_idle_images(options)
    refuse_idle_evaluation(options, options.run)
    rule = hit_rule(options)
    from pathlib import Path

    from xray_lazy.analysis.screening.operating_point import FILE_NAME
    from xray_lazy.analysis.screening.operating_point_choice import choose_operating_point, write_operating_point
    from xray_lazy.analysis.screening.screening_text import print_choice
    from xray_lazy.utils.results_place import check_json_file

    inputs, weights = fused(options, read_inputs(options, options.run))
    folder = Path(options.output or inputs.folder)
    check_json_file(folder / FILE_NAME, "an operating point", "schema", "thresholds")
    found = choose_operating_point(
        inputs, options.false_alarms / 100, rule, options.group_by, options.confidence, options.seed, weights
    )
    print_choice(found, write_operating_point(found, folder))


def add_protocol(commands) -> None:
    """`protocol`: the figures of papers."""
    parser = commands.add_parser(
        "protocol",
        help="the figures that papers on a public X-ray set give",
        description="Judge as the papers on a set do. pidray: COCO's AP of the easy, hard and hidden images and both "
        "overall figures. opixray: VOC's AP50 by occlusion level. sixray: image-level AP. dvxray: that of views and "
        "bags. eds: AP50 from scanner to scanner, of several runs. voc: VOC's AP50 of any set, as HiXray's.",
    )
    parser.add_argument("protocol", choices=["pidray", "opixray", "sixray", "dvxray", "eds", "voc"], metavar="PROTOCOL")
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="an output folder, or COCO results (.json); several for eds"
    )
    add_evaluation(parser)
    parser.add_argument(
        "--subset",
        action="append",
        type=word,
        metavar="NAME=FILE",
        help="images of a part of the set: a COCO file, or a list with a name on each line; for each part",
    )
    parser.set_defaults(run_command=run_protocol, parser=parser)


def run_protocol(options: argparse.Namespace) -> None:
    refuse_idle_images(options)
    if options.protocol == "eds":
        idle = ["ground_truth", "images", "max_detections", "subset"]
        refuse_idle(options.parser, options, idle, "with eds, which reads what evaluations found")
    elif len(options.runs) > 1:
        raise UserError(f"{options.protocol} is of one run, and {len(options.runs)} are given", "one call for each")
    else:
        refuse_idle_evaluation(options, *options.runs)
    from xray_lazy.analysis.protocol_files import print_protocol, protocol_file, write_protocol
    from xray_lazy.analysis.published_protocols import ON_ONE_RUN, eds
    from xray_lazy.run_folder import RunFolder
    from xray_lazy.utils.results_place import check_json_file

    if options.protocol == "eds":
        found, folder = eds(options.runs, options.evaluation), RunFolder(options.runs[0]).analysis
    else:
        subsets = read_subsets(options.subset or ())
        inputs = read_inputs(options, options.runs[0])
        found, folder = ON_ONE_RUN[options.protocol](inputs, subsets), inputs.folder
    file = protocol_file(options.protocol, options.output or folder)
    check_json_file(file, "the figures of a protocol", "schema", "protocol")
    write_protocol(found, file)
    print_protocol(found, file)


def read_subsets(given) -> dict[str, set[str]]:
    """The images of each part, by NAME=FILE."""
    from xray_lazy.analysis.subsets import read_subset

    subsets = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not (name and equals and file) or name in subsets:
            fault = f"--subset {one} is not NAME=FILE with a name of its own"
            raise UserError(fault, "e.g. --subset OL1=test_knife-1.txt")
        subsets[name] = read_subset(path(file))
    return subsets


def add_next(commands) -> None:
    """`next`: what to label."""
    parser = commands.add_parser(
        "next",
        help="the unlabelled images most worth labelling",
        description="Order unlabelled images by how unsure the model is of them, rare classes first, each unlike the "
        "ones before it: a list with scores, and a sheet to look at.",
    )
    parser.add_argument("run", type=path, metavar="RUN", help="an output folder, or an exported model")
    parser.add_argument("inputs", nargs="+", type=path, metavar="INPUT", help="images, folders, patterns, COCO files")
    parser.add_argument("--count", type=whole(1), default=100, metavar="N", help="images to choose (default: 100)")
    parser.add_argument("--output", type=path, default="output/next", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda")
    parser.set_defaults(run_command=run_next)


def run_next(options: argparse.Namespace) -> None:
    from xray_lazy.prediction.next_to_label import choose_next
    from xray_lazy.utils.results_place import sole_writer

    with sole_writer(options.output):
        choose_next(options.run, options.inputs, options.count, options.output, options.device)


def add_scale(commands) -> None:
    """`scale`: scanners whose pixels differ in size."""
    parser = commands.add_parser(
        "scale",
        help="whether a scanner's bags are as large as the training set's",
        description="Measure how large bags reach the network, those of the training set and those of other scans, "
        "such as a new scanner's, and say how these are to be resized so that items are as large as the model learned "
        "them. No labels are needed.",
    )
    parser.add_argument(
        "source", type=path, metavar="OUTPUT_DIR|CONFIG", help="a run or a config; weights play no part"
    )
    parser.add_argument("inputs", nargs="+", type=path, metavar="INPUT", help="images, folders, patterns, COCO files")
    parser.add_argument(
        "--images", type=whole(1), default=200, metavar="N", help="of either to look at (default: %(default)s)"
    )
    parser.add_argument(
        "--image-root", type=path, metavar="DIR", help="of a COCO file's images (default: images/ beside it)"
    )
    parser.set_defaults(run_command=run_scale)


def run_scale(options: argparse.Namespace) -> None:
    from xray_lazy.prediction.bag_scale import compare_scales, print_scales

    scales = compare_scales(options.source, options.inputs, most=options.images, image_root=options.image_root)
    print_scales(scales, " ".join(options.inputs))


def add_model(commands) -> None:
    """`model`: what it costs."""
    parser = commands.add_parser(
        "model",
        help="parameters, FLOPs, activations and time per part",
        description="Measure a model on one image, part by part: parameters, FLOPs, activations, time. Overrides "
        "such as model.roi_heads.num_classes=13 may follow.",
    )
    parser.add_argument(
        "source", type=path, metavar="OUTPUT_DIR|CONFIG", help="a run or a config; weights play no part"
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="of the config")
    parser.add_argument(
        "--size", type=word, metavar="WxH", help="of the image as the network sees it (default: the config's)"
    )
    parser.add_argument("--device", default="auto", help="auto (the default), cpu, cuda")
    parser.add_argument("--repeats", type=whole(1), default=5, metavar="N", help="timed passes (default: 5)")
    parser.add_argument("--depth", type=whole(0), default=2, metavar="N", help="of the parts in the table (default: 2)")
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="for the JSON (default: analysis/model.json in a run's folder)"
    )
    parser.set_defaults(run_command=run_model)


def run_model(options: argparse.Namespace) -> None:
    from pathlib import Path

    from xray_lazy.analysis.analysis_console import print_model_cost
    from xray_lazy.analysis.model_cost import measure_source, write_model_cost
    from xray_lazy.run_folder import RunFolder
    from xray_lazy.utils.results_place import check_json_file

    run = Path(options.source)
    file = options.output or (RunFolder(run).analysis / "model.json" if run.is_dir() else None)
    if file:
        check_json_file(file, "a measurement of a model", "schema")
    size = parse_size(options.size) if options.size else None
    cost = measure_source(options.source, options.overrides, size, options.device, options.repeats, options.depth)
    print_model_cost(cost)
    if file:
        write_model_cost(cost, file)
        print(f"results are in {file}")


if __name__ == "__main__":
    parsed = build_parser().parse_args()
    run_tool(lambda: parsed.run_command(parsed), parsed.debug)
