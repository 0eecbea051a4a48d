#!/usr/bin/env python
"""Make, check, repair, split and convert COCO-format X-ray data sets, and libraries of threats."""

import argparse
import os
from contextlib import ExitStack
from pathlib import Path

from xray_lazy.command_line import parse_size, path, real, refuse_idle, run_tool, whole, word
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted, tool_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo(commands)
    add_check(commands)
    add_repair(commands)
    add_split(commands)
    add_convert(commands)
    add_export(commands)
    add_import(commands)
    add_threats(commands)
    add_colours(commands)
    return parser


def add_demo(commands) -> None:
    """`demo`: a synthetic set."""
    parser = commands.add_parser(
        "demo",
        help="generate a synthetic X-ray set",
        description="Generate synthetic X-ray scans of bags with exact instance masks, laid out for training.",
    )
    parser.add_argument(
        "--output", type=path, metavar="DIR", help="root of the sets (default: $XRAY_DATASETS or datasets/xray)"
    )
    parser.add_argument(
        "--scanner",
        action="append",
        metavar="NAME",
        help="demo (320x192, the default), astrophysics, smith or rapiscan; may be given several times",
    )
    parser.add_argument(
        "--train", type=whole(0), default=240, metavar="N", help="training images (default: %(default)s)"
    )
    parser.add_argument(
        "--val", type=whole(0), default=60, metavar="N", help="validation images (default: %(default)s)"
    )
    parser.add_argument("--test", type=whole(0), default=0, metavar="N", help="test images (default: %(default)s)")
    parser.add_argument(
        "--export",
        type=whole(0),
        metavar="N",
        help="instead, N images in one folder with one JSON, as a scanner exports them",
    )
    parser.add_argument("--faults", action="store_true", help="break the export as real ones are, and tell how")
    parser.add_argument(
        "--classes", default="13", metavar="N|NAMES", help="number of classes, or gun,knife,... (default: 13)"
    )
    parser.add_argument(
        "--empty",
        type=real(least=0, most=1),
        default=0.1,
        metavar="SHARE",
        help="share of bags without items (default: 0.1)",
    )
    parser.add_argument(
        "--masks", default="rle", metavar="FORM", help="rle (exact, the default) or polygon (holes filled)"
    )
    parser.add_argument("--format", default="jpg", metavar="EXT", help="jpg (the default) or png")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="what the detectors count, 16-bit PNGs of the low and the high energy, as a set NAME_raw",
    )
    parser.add_argument(
        "--views",
        type=whole(1),
        default=1,
        metavar="N",
        help="2: each bag from above and from the side, as images of one bag; N of --train are bags then (default: 1)",
    )
    parser.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="the same seed makes the same files (default: 0)"
    )
    parser.add_argument("--workers", type=whole(1), metavar="N", help="processes (default: one per core)")
    parser.set_defaults(run=run_demo, parser=parser)


def run_demo(options: argparse.Namespace) -> int:
    from xray_lazy.data.dataset_places import default_root
    from xray_lazy.data.synthetic import parse_classes
    from xray_lazy.data.synthetic.generate import generate_export, generate_set, name_of_scanner
    from xray_lazy.utils.results_place import check_result_folder, sole_writer

    if options.faults and options.export is None:
        raise UserError("--faults are planted in exports only", "add --export N")
    if options.export is not None:
        refuse_idle(options.parser, options, ("train", "val", "test"), "with --export")
    if options.raw:
        refuse_idle(options.parser, options, ("format", "faults"), "with --raw")
    root = options.output or default_root()
    check_result_folder(root)
    common = {
        "classes": parse_classes(options.classes),
        "seed": options.seed,
        "workers": options.workers,
        "empty_share": options.empty,
        "masks": options.masks,
        "image_format": options.format,
        "raw": options.raw,
        "views": options.views,
    }
    for scanner in dict.fromkeys(options.scanner or ["demo"]):
        name = name_of_scanner(scanner, options.raw)
        with sole_writer(Path(root) / "images" / name):
            if options.export is not None:
                file, planted = generate_export(root, scanner, options.export, faults=options.faults, **common)
                print(f"{file}: {counted(options.export * options.views, 'image')}")
                for fault in planted:
                    print(f"  planted: {fault.kind}: {fault.where}")
            else:
                counts = {"train": options.train, "val": options.val, "test": options.test}
                for split, file in generate_set(root, scanner, counts, **common).items():
                    print(f"xray_{name}_{split}: {counted(counts[split] * options.views, 'image')}, {file}")
    return 0


def add_check(commands) -> None:
    """`check`: every fault of a set."""
    parser = commands.add_parser(
        "check",
        help="report every fault of a COCO set",
        description="Report every fault of one or more COCO sets, each with its ids and its fix. Nothing is changed.",
        epilog="exit code: 0 the sets can be trained on, 1 there are errors, 2 a set is not there or is not COCO",
    )
    parser.add_argument(
        "sets",
        nargs="+",
        type=path,
        metavar="SET",
        help="ANNOTATIONS.json IMAGES_DIR, or a name (xray_smith_val); several are also compared with each other",
    )
    parser.add_argument("--root", type=path, metavar="DIR", help="folder of the named sets (default: $XRAY_DATASETS)")
    parser.add_argument("--no-pictures", action="store_true", help="look at the JSON alone: quick, needs no IMAGES_DIR")
    parser.add_argument(
        "--json", type=path, metavar="FILE", help="also write all findings as JSON; - prints it instead"
    )
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    import json

    from xray_lazy.data.check import check_sets, open_sets
    from xray_lazy.data.check.check_console import print_report
    from xray_lazy.utils.atomic_file import write_json
    from xray_lazy.utils.results_place import check_json_file

    if options.json and options.json != "-":
        check_json_file(options.json, "a list of findings", "trainable", "counts")
    sets = open_sets(options.sets, options.root, images=not options.no_pictures)
    report = check_sets(sets, read_images=not options.no_pictures, show_progress=True)
    if options.json == "-":
        print(json.dumps(report.as_json(), indent=2))
    else:
        print_report(report)
        if options.json:
            write_json(options.json, report.as_json(), indent=2)
            print(f"all findings: {options.json}")
    return 0 if report.trainable else 1


def add_repair(commands) -> None:
    """`repair`: what can be fixed without guessing."""
    parser = commands.add_parser(
        "repair",
        help="fix what can be fixed without guessing",
        description="Write a new COCO file in which everything is fixed that needs no guess, and list each change. "
        "The input stays as it is. The exit code is 1 where something is left that training would refuse.",
    )
    parser.add_argument("annotations", type=path, metavar="ANNOTATIONS.json")
    parser.add_argument(
        "images", nargs="?", type=path, metavar="IMAGES_DIR", help="without it, sizes are not compared with files"
    )
    parser.add_argument("--output", type=path, metavar="NEW.json", help="the new file; required but for --dry-run")
    parser.add_argument("--overwrite", action="store_true", help="replace NEW.json if it is there already")
    parser.add_argument("--changes", type=path, metavar="FILE", help="write the full list of changes as JSON")
    parser.add_argument("--dry-run", action="store_true", help="tell the changes, write nothing")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--scanner", type=word, metavar="NAME", help="size of images whose file is not there: of this scanner"
    )
    sizes.add_argument(
        "--size", type=word, metavar="WxH", help="size of images whose file is not there, e.g. 1920x1080"
    )
    parser.add_argument(
        "--drop-unreadable", action="store_true", help="leave out images that are missing or can't be read"
    )
    parser.add_argument(
        "--merge-copies",
        action="store_true",
        help="make one image of all that have the same pixels, with the annotations of all: some sets have a scan "
        "several times, each with the items of one class",
    )
    parser.add_argument(
        "--group-by",
        type=word,
        metavar="REGEX",
        help="write `bag` and `view` of each image, the first and second group of this expression in its file name, "
        "e.g. '^(.+)_([^_]+)[.]'",
    )
    parser.set_defaults(run=run_repair)


def run_repair(options: argparse.Namespace) -> int:
    from xray_lazy.utils.results_place import sole_maker

    with ExitStack() as held:
        files = () if options.dry_run else {options.output, options.changes} - {None}
        for file in files:
            held.enter_context(sole_maker(Path(file)))
        return _repair(options)


def _repair(options: argparse.Namespace) -> int:
    from xray_lazy.data.check import open_sets
    from xray_lazy.data.check.check_console import print_changes, print_left
    from xray_lazy.data.repair import check_targets, name_bags, refuse_nothing, repair, write_repaired
    from xray_lazy.data.scanners import scanner_size

    check_targets(options.annotations, options.output, options.changes, options.overwrite, options.dry_run)
    size = scanner_size(options.scanner) if options.scanner else parse_size(options.size) if options.size else None
    folder = [options.images] if options.images else []
    one = open_sets([options.annotations, *folder], images=bool(folder))[0]
    if options.merge_copies and not folder:
        raise UserError(
            "--merge-copies compares the pixels of images", "give their folder: ANNOTATIONS.json IMAGES_DIR"
        )
    repaired = repair(one, size, options.drop_unreadable, show_progress=True, merge_copies=options.merge_copies)
    if options.group_by:
        repaired = name_bags(repaired, options.group_by)
    print_changes(repaired.changes)
    print_left(repaired.left)
    refuse_nothing(one, repaired)
    if not options.dry_run:
        write_repaired(repaired, options.output, options.changes)
        print(f"repaired set: {options.output}" + (f", changes: {options.changes}" if options.changes else ""))
    return 0 if repaired.left.trainable else 1


def add_split(commands) -> None:
    """`split`: train, val and test."""
    parser = commands.add_parser(
        "split",
        help="split sets into train, val and test",
        usage="%(prog)s ANNOTATIONS.json IMAGES_DIR --scanner NAME [options]\n"
        "       %(prog)s --scanner NAME ANNOTATIONS.json IMAGES_DIR [--scanner NAME ANNOTATIONS.json IMAGES_DIR ...] "
        "[options]",
        description="Split one COCO set of each scanner into train, val and test: shares by images, stratified by "
        "class, so that rare classes reach every split. The same set, ratios and seed give the same split.",
    )
    parser.add_argument("annotations", nargs="?", type=path, metavar="ANNOTATIONS.json")
    parser.add_argument("images", nargs="?", type=path, metavar="IMAGES_DIR")
    parser.add_argument(
        "--scanner",
        nargs="+",
        action="append",
        required=True,
        type=path,
        metavar=("NAME", "FILE"),
        help="name of the scanner; with its ANNOTATIONS.json and IMAGES_DIR behind it, repeat it for several scanners",
    )
    parser.add_argument("--output", type=path, metavar="DIR", help="default: $XRAY_DATASETS, else datasets/xray")
    parser.add_argument(
        "--ratios",
        nargs=3,
        type=real(least=0, most=1),
        default=(0.7, 0.15, 0.15),
        metavar=("TRAIN", "VAL", "TEST"),
        help="sum to 1",
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="default: 0")
    parser.add_argument(
        "--group-by",
        type=word,
        metavar="REGEX",
        help="keep images together in whose file names the regular expression, or its first group, finds the same; "
        "with a second group these are bags and views; or `duplicates`: those that show the same scan, also "
        "compressed, resized, brighter, cropped, mirrored",
    )
    parser.add_argument("--transfer", choices=("copy", "link", "move"), default="copy", help="default: copy")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier split of the same images")
    parser.set_defaults(run=run_split)


def run_split(options: argparse.Namespace) -> int:
    from xray_lazy.data.dataset_places import default_root
    from xray_lazy.data.split import plan_split, read_export, write_splits
    from xray_lazy.data.split.split_console import print_plan
    from xray_lazy.utils.results_place import check_result_folder, sole_writer

    output = options.output or default_root()
    check_result_folder(output)
    exports = [read_export(*scanner) for scanner in _scanners(options)]
    plans = [
        plan_split(export, options.ratios, options.seed, options.group_by, show_progress=True) for export in exports
    ]
    with ExitStack() as held:
        for scanner in sorted({plan.export.scanner for plan in plans}):
            held.enter_context(sole_writer(Path(output) / "images" / scanner))
        write_splits(plans, output, options.transfer, options.overwrite, show_progress=True)
    for plan in plans:
        print_plan(plan)
    print(f"written to {output}: " + ", ".join(f"xray_{p.export.scanner}_{split}" for p in plans for split in p.parts))
    return 0


def _scanners(options: argparse.Namespace) -> list[list[str]]:
    """[name, JSON, folder] of each scanner; a set without a name belongs to the name without a set."""
    alone = [path for path in (options.annotations, options.images) if path is not None]
    scanners = [given if len(given) > 1 else given + alone for given in options.scanner]
    names_alone = sum(len(given) == 1 for given in options.scanner)
    if any(len(scanner) != 3 for scanner in scanners) or names_alone != bool(alone):
        raise UserError(
            "each scanner needs its annotation file and its image folder",
            "--scanner astrophysics a.json a_images/ --scanner smith s.json s_images/",
        )
    return scanners


def add_convert(commands) -> None:
    """`convert`: other formats to COCO."""
    parser = commands.add_parser(
        "convert",
        help="convert VOC, YOLO, labelme, OPIXray's text, CVAT or Label Studio to COCO",
        description="Convert a folder of Pascal VOC, YOLO, labelme or OPIXray's labels, or a file of CVAT (for images "
        "1.1) or Label Studio (JSON), to one COCO file. Sizes come from the images; images without a label are kept.",
    )
    parser.add_argument("format", choices=("voc", "yolo", "labelme", "opixray", "cvat", "label_studio"))
    parser.add_argument(
        "source",
        type=path,
        metavar="SOURCE",
        help="folder of the label files, searched with its subfolders; cvat, label_studio: or the file",
    )
    parser.add_argument(
        "--images",
        type=path,
        metavar="DIR",
        help="default: images/, JPEGImage/ or the like in SOURCE_DIR, else itself",
    )
    parser.add_argument(
        "--classes", type=path, metavar="FILE", help="class names in their order: one per line, or a data.yaml"
    )
    parser.add_argument("--zero-based", action="store_true", help="voc: coordinates count from 0, not from 1")
    parser.add_argument(
        "--match-by",
        choices=("name", "stated"),
        help="voc, labelme: where a label's own name fits one image and the name stated inside another, which counts",
    )
    parser.add_argument(
        "--list",
        type=path,
        metavar="FILE",
        help="only the images that it names: one on each line, or a CSV (name,Gun,Knife ... with 1 for what is in it)",
    )
    add_rename(parser)
    parser.add_argument("--output", required=True, type=path, metavar="NEW.json", help="the COCO file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace NEW.json if it is there already")
    parser.set_defaults(run=run_convert, parser=parser)


def run_convert(options: argparse.Namespace) -> int:
    from xray_lazy.utils.results_place import sole_maker

    idle = {"voc": (), "labelme": ("zero_based",)}.get(options.format, ("zero_based", "match_by"))
    refuse_idle(options.parser, options, idle, f"on {options.format} labels")
    with sole_maker(Path(options.output)):
        return _convert(options)


def _convert(options: argparse.Namespace) -> int:
    from xray_lazy.data.convert import convert
    from xray_lazy.utils.atomic_file import write_json
    from xray_lazy.utils.results_place import check_json_file

    if Path(options.output).exists() and not options.overwrite:
        raise UserError(f"{options.output} is there already", "take another --output, or --overwrite")
    check_json_file(options.output, "a COCO file", "images", "annotations")
    converted = convert(
        options.format,
        options.source,
        options.images,
        options.classes,
        options.zero_based,
        options.match_by,
        options.list,
        _renames(options),
    )
    write_json(options.output, converted.content)
    print(converted.summary())
    command = tool_command("dataset", "check", options.output, converted.image_folder)
    print(f"written to {options.output}; next: {command}")
    return 0


def add_export(commands) -> None:
    """`export`: COCO to other formats."""
    parser = commands.add_parser(
        "export",
        help="write a COCO set for YOLO, VOC, labelme, CVAT or Label Studio",
        description="Write a COCO set as YOLO (boxes, or outlines with yolo_segment), Pascal VOC, labelme, CVAT for "
        "images 1.1 or Label Studio JSON, and tell what the format can't hold. `convert` reads all of these back.",
    )
    parser.add_argument("format", choices=("yolo", "yolo_segment", "voc", "labelme", "cvat", "label_studio"))
    parser.add_argument(
        "set", nargs="+", type=path, metavar="SET", help="ANNOTATIONS.json IMAGES_DIR, or a name (xray_smith_val)"
    )
    parser.add_argument("--root", type=path, metavar="DIR", help="folder of the named sets (default: $XRAY_DATASETS)")
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="the new folder")
    parser.add_argument(
        "--images",
        choices=("link", "copy", "none"),
        default="link",
        help="link them beside the labels (the default), copy them, or write the labels alone",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    from xray_lazy.data.check import open_sets
    from xray_lazy.data.label_export import LABEL_WRITERS, export_labels

    sets = open_sets(options.set, options.root, images=options.images != "none")
    if len(sets) > 1:
        raise UserError(f"{len(sets)} sets are given: {', '.join(one.name for one in sets)}", "export them one by one")
    exported = export_labels(sets[0], options.format, options.output, options.images, options.overwrite)
    print(exported.summary())
    print(f"written to {options.output}; next: {LABEL_WRITERS[options.format].next_step(exported.folder)}")
    return 0


def add_import(commands) -> None:
    """`import`: a public set."""
    parser = commands.add_parser(
        "import",
        help="make sets of a public X-ray set",
        description="Check the folder of a public X-ray set, repair its known faults, and write COCO files of all its "
        "subsets, with a link to the images. Splits that it lacks are drawn by bags.",
        epilog="docs/datasets.md has all sets, what is in them, and their licences",
    )
    parser.add_argument(
        "name",
        type=word,
        metavar="NAME",
        help="opixray, hixray, xad, eds, fsod, sixray, pidray, pidray2, clcxray, dvxray, pixray, stcray or gdxray",
    )
    parser.add_argument("folder", type=path, metavar="FOLDER", help="of the unpacked set")
    parser.add_argument("--output", type=path, metavar="DIR", help="default: $XRAY_DATASETS, else datasets/xray")
    add_rename(parser)
    parser.add_argument("--seed", type=whole(0), default=0, help="of splits that the set lacks (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier import")
    parser.set_defaults(run=run_import)


def add_rename(parser) -> None:
    """`--rename`, which `_renames` reads."""
    parser.add_argument(
        "--rename",
        type=word,
        metavar="OLD=NEW,...",
        help="classes, to train on several sets: Scissors=scissors,HandCuffs=handcuffs",
    )


def run_import(options: argparse.Namespace) -> int:
    from pathlib import Path

    from xray_lazy.data.dataset_places import default_root
    from xray_lazy.data.public_sets import PUBLIC_SETS, import_set
    from xray_lazy.data.public_sets.import_console import print_imported
    from xray_lazy.utils.results_place import check_result_folder

    root = options.output or default_root()
    check_result_folder(root)
    made, notes = import_set(
        options.name,
        Path(options.folder),
        Path(root),
        _renames(options),
        options.seed,
        options.overwrite,
        show_progress=True,
    )
    print_imported(made, notes, PUBLIC_SETS[options.name])
    print(f"written to {root}; next: {tool_command('dataset', 'check', made[0].name, '--root', root)}")
    return 0


def _renames(options: argparse.Namespace) -> dict[str, str]:
    renames: dict[str, str] = {}
    for old, new in (_renamed(pair) for pair in (options.rename or "").split(",") if pair.strip()):
        if renames.setdefault(old, new) != new:
            raise UserError(f"--rename calls {old} both {renames[old]} and {new}", "give each class one name")
    return renames


def _renamed(pair: str) -> tuple[str, str]:
    old, equals, new = (part.strip() for part in pair.partition("="))
    if not (old and equals and new):
        raise UserError(f"--rename has {pair!r}", "write it as OLD=NEW,OLD=NEW")
    return old, new


def add_threats(commands) -> None:
    """`threats`: a library of single items."""
    parser = commands.add_parser(
        "threats",
        help="cut single items out, for threat image projection",
        usage="%(prog)s ANNOTATIONS.json --images DIR --output DIR [options]\n"
        "       %(prog)s xray_SCANNER_train --output DIR [options]\n"
        "       %(prog)s --scans DIR --output DIR [options]",
        description="Make a library of single items: what each alone lets through, for training to put into other "
        "bags. Take training's items only: what is also in a validation or test image would be known from training.",
    )
    parser.add_argument(
        "annotations",
        nargs="?",
        type=path,
        metavar="ANNOTATIONS",
        help="a COCO file, or a set's name (xray_smith_train)",
    )
    parser.add_argument("--images", type=path, metavar="DIR", help="folder of the images of a COCO file")
    parser.add_argument("--root", type=path, metavar="DIR", help="folder of the named sets (default: $XRAY_DATASETS)")
    parser.add_argument(
        "--scans", type=path, metavar="DIR", help="instead, scans of one item each, in a subfolder for each class"
    )
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="folder of the library")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier library")
    parser.add_argument(
        "--scanner", type=word, metavar="NAME", help="that made the images (default: that of the set's name)"
    )
    parser.add_argument(
        "--pixel-size", type=real(above=0), metavar="MM", help="of the images, to keep items in scale with others"
    )
    parser.add_argument(
        "--most-overlap",
        type=real(least=0, most=1),
        default=0.2,
        metavar="SHARE",
        help="leave out items of which others cover more (default: 0.2)",
    )
    parser.set_defaults(run=run_threats, parser=parser)


def run_threats(options: argparse.Namespace) -> int:
    from pathlib import Path

    from xray_lazy.data.augmentation.threat_cutting import cut_dataset, cut_scans
    from xray_lazy.data.augmentation.threat_library import require_free, summary
    from xray_lazy.data.datasets import load_datasets
    from xray_lazy.visualization.threat_sheet import save_threat_sheet

    folder = Path(options.output)
    require_free(folder, options.overwrite)
    common = {"pixel_size": options.pixel_size, "overwrite": options.overwrite, "show_progress": True}
    if options.scans:
        refuse_idle(options.parser, options, ("annotations", "images", "root", "most_overlap"), "with --scans")
        counts, left_out = cut_scans(Path(options.scans), folder, options.scanner, **common)
    else:
        reference, scanner = _annotated_set(options)
        dataset = load_datasets(reference, options.root)
        counts, left_out = cut_dataset(dataset, folder, scanner, options.most_overlap, **common)
    for line in summary(counts, left_out.most_common()):
        print(line)
    print(f"written to {folder}; look at {save_threat_sheet(folder)}")
    return 0


def _annotated_set(options: argparse.Namespace) -> tuple[str | dict, str | None]:
    """The reference of the set to cut items out of, and its scanner, where it is known."""
    if not options.annotations:
        raise UserError("no items are named", "give ANNOTATIONS.json --images DIR, a set's name, or --scans DIR")
    if options.images:
        refuse_idle(options.parser, options, ("root",), "with --images")
        if not os.path.isfile(options.annotations):
            raise UserError(f"there is no file {options.annotations}", "give the COCO file of the images")
        return {"json_file": options.annotations, "image_root": options.images}, options.scanner
    if options.annotations.endswith(".json"):
        raise UserError(f"the images of {options.annotations} are not named", "add --images DIR")
    name = options.annotations.removeprefix("xray_").rpartition("_")[0]
    return options.annotations, options.scanner or name or None


def add_colours(commands) -> None:
    """`colours`: of several scanners, for the augmentation ScannerColours."""
    parser = commands.add_parser(
        "colours",
        help="measure the colours of scanners, so that training can shift one's to another's",
        description="Count the colours of images of several scanners and write them to a small JSON file, from which "
        "the augmentation ScannerColours shifts the images of one towards those of another. No labels are needed.",
        epilog="example: dataset.py colours --scanner smith datasets/xray/images/smith --scanner new 'scans/new_*' "
        "--output colours.json",
    )
    parser.add_argument(
        "--scanner",
        nargs="+",
        action="append",
        required=True,
        type=path,
        metavar=("NAME IMAGES", ""),
        help="two or more times: a folder with images of this scanner, or a pattern of their paths in quotes",
    )
    parser.add_argument(
        "--images", type=whole(1), default=200, metavar="N", help="of each scanner at most (default: %(default)s)"
    )
    parser.add_argument("--output", required=True, type=path, metavar="FILE.json", help="the file to write")
    parser.set_defaults(run=run_colours)


def run_colours(options: argparse.Namespace) -> int:
    from xray_lazy.data.augmentation.scanner_statistics import measure_scanners
    from xray_lazy.utils.atomic_file import write_json
    from xray_lazy.utils.results_place import check_json_file

    for name, *places in options.scanner:
        # the file names images by a pattern, which paths that a shell has put in for it don't tell
        if len(places) != 1:
            raise UserError(
                f"--scanner {name} takes one place of images, not {len(places)}",
                "give a folder, or a pattern in quotes, which no shell replaces: --scanner new 'scans/new_*'",
            )
    check_json_file(options.output, "a file of colours", "kind", "scanners")
    names = [name for name, _ in options.scanner]
    if len(set(names)) < len(names):
        raise UserError(f"a scanner is named twice: {' '.join(names)}", "give each scanner once; a pattern holds more")
    content = measure_scanners(dict(options.scanner), options.images)
    write_json(options.output, content, indent=2)
    for name, one in content["scanners"].items():
        white = " ".join(f"{value:.0f}" for value in one["white"].values())
        print(f"{name}: {counted(one['images'], 'image')} of {one['files']}, white (blue green red) {white}")
    print(f"written to {options.output}: L(ScannerColours)(statistics={options.output!r})")
    return 0


if __name__ == "__main__":
    arguments = build_parser().parse_args()
    run_tool(lambda: arguments.run(arguments), arguments.debug)
