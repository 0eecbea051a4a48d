"""How the papers of public X-ray sets judge: the figures that their tables have, by the name of the set."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from xray_lazy.analysis.inputs import Inputs, warn_of_unread
from xray_lazy.analysis.results import plain
from xray_lazy.analysis.screening.screening import images_of
from xray_lazy.analysis.subsets import Subsets, parts_of
from xray_lazy.data.dataset_places import scanner_of
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import IouType
from xray_lazy.evaluation.screening.bags import BoxesOfImage, HitRule, score_bags
from xray_lazy.evaluation.screening.figures import ranking_precision
from xray_lazy.evaluation.voc_ap import voc_precisions
from xray_lazy.run_folder import Evaluation, RunFolder, best_evaluation

SCHEMA = 1  # of protocol_<name>.json
PIDRAY = ("easy", "hard", "hidden")
OPIXRAY = ("OL1", "OL2", "OL3")


@dataclass(frozen=True)
class Row:
    """Figures in percent of one part of the set, or of a class; NaN where there are none."""

    name: str
    images: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class ProtocolResult:
    """A table as the paper has it.

    Attributes:
        how: in words, what the figures are.
        columns: names of `Row.values`.
        notes: what is missing, or differs from the paper.
    """

    protocol: str
    dataset: str
    origin: str
    how: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return plain({"schema": SCHEMA, **asdict(self)})


def pidray(inputs: Inputs, subsets: Subsets) -> ProtocolResult:
    """COCO's AP of the easy, the hard and the hidden images, and both ways to an overall figure.

    Images are told apart by `subsets`, else by a part of their path or name: `hard/x.png`, `xray_hard00001.png`; or by
    the name of their set: `xray_hard_test`.

    Raises:
        UserError: an image is of no subset, or a subset is empty.
    """
    names = _names(inputs)
    if subsets:
        parts = parts_of(names, _need(subsets, PIDRAY))
    else:
        scanners = [str(image.get("scanner", "")) for image in inputs.ground_truth["images"]]
        words = ["/".join([s, *PurePath(one).parts[-2:]]).lower() for s, one in zip(scanners, names, strict=True)]
        parts = {part: [place for place, text in enumerate(words) if part in text] for part in PIDRAY}
    counts = np.bincount([place for part in parts.values() for place in part], minlength=len(names))
    if (counts != 1).any() or not all(parts.values()):
        raise UserError(
            f"{int((counts != 1).sum())} of {len(names)} images of {inputs.dataset} are not of just one of "
            f"{', '.join(PIDRAY)}, e.g. {names[int((counts != 1).argmax())]}; "
            + ", ".join(f"{len(places)} are {part}" for part, places in parts.items()),
            "name the lists: --subset easy=xray_test_easy.json --subset hard=... --subset hidden=...",
        )
    both: tuple[IouType, IouType] = ("bbox", "segm")
    tasks: list[IouType] = [task for task in both if _has(inputs, task)]
    figures: dict[str, list[float]] = {name: [] for name in (*parts, "all")}
    for task in tasks:
        matching = inputs.matching(task)
        # the matching's images are in the order of their ids
        place = {image_id: number for number, image_id in enumerate(matching.matches.image_ids)}
        ids = [image["id"] for image in inputs.ground_truth["images"]]
        numbers = {name: [place[ids[one]] for one in part] for name, part in parts.items()}
        of_parts = matching.figures_of({**numbers, "all": list(range(len(ids)))})
        for name, (ap, ap50, _) in of_parts.items():
            figures[name] += [ap, ap50]
    means = np.mean([figures[part] for part in PIDRAY], axis=0).tolist()
    rows = [Row(part, len(parts[part]), tuple(figures[part])) for part in PIDRAY]
    rows.append(Row("overall, v1: mean of the three", len(names), tuple(means)))
    rows.append(Row("overall, v2: of all images", len(names), tuple(figures["all"])))
    columns = tuple(f"{what} {name}" for what in _task_names(tasks) for name in ("AP", "AP50"))
    how = "COCO's AP in percent of each subset as if it were all"
    return ProtocolResult("pidray", inputs.dataset, inputs.origin, how, columns, tuple(rows))


def opixray(inputs: Inputs, subsets: Subsets) -> ProtocolResult:
    """VOC's AP50 by occlusion level, each way of interpolation, and of each class over all images.

    The level of an image is told by `subsets`, else by the annotated occlusion of its items: 1, 2, 3.
    """
    names, images = _names(inputs), images_of(inputs)
    parts = parts_of(names, _need(subsets, OPIXRAY)) if subsets else _occlusion_levels(inputs)
    notes = []
    if not parts:
        notes.append("no annotation tells levels of occlusion: --subset OL1=test_knife-1.txt names the lists of images")
    rows = [_voc_row(name, [images[place] for place in places], inputs) for name, places in parts.items()]
    return _voc_result("opixray", inputs, images, rows, notes)


def voc(inputs: Inputs, subsets: Subsets) -> ProtocolResult:
    """VOC's AP50 of each subset, of all images, and of each class; HiXray's protocol, too."""
    images = images_of(inputs)
    parts = parts_of(_names(inputs), subsets)
    rows = [_voc_row(name, [images[place] for place in places], inputs) for name, places in parts.items()]
    return _voc_result("voc", inputs, images, rows, [])


def sixray(inputs: Inputs, subsets: Subsets) -> ProtocolResult:
    """Image-level AP of each class and their mean: how well images with the class are told from the others, by the
    best score of any detection of it, wherever that lies."""
    names, images, classes = _names(inputs), images_of(inputs), _class_names(inputs)
    parts = {**parts_of(names, subsets), "all": list(range(len(names)))}
    columns: dict[str, list[float]] = {}
    for name, places in parts.items():
        bags = score_bags([images[place] for place in places], len(classes), HitRule())
        aps = [100 * ranking_precision(bags.shows[:, k], bags.alarm[:, k]) for k in range(len(classes))]
        columns[name] = [*aps, _mean(aps)]
    counts = _images_with(images, len(classes))
    values = list(zip(*columns.values(), strict=True))
    rows = [Row(*row) for row in zip([*classes, "mean"], [*counts, len(names)], values, strict=True)]
    how = "average precision in percent of images by their best score of the class, not interpolated"
    return ProtocolResult(
        "sixray", inputs.dataset, inputs.origin, how, tuple(f"AP, {name}" for name in columns), tuple(rows)
    )


def dvxray(inputs: Inputs, subsets: Subsets) -> ProtocolResult:
    """Image-level AP of each class, of each view and of bags, which have the best score of their views.

    A file name is that of the bag, `_` and the view: `P03152_OL.png`. What is in a bag counts for each of its views,
    also where it can't be seen in one.

    Raises:
        UserError: a file name is another, or there are subsets.
    """
    if subsets:
        raise UserError("the protocol dvxray has no subsets but its views", "leave out --subset")
    stems = [PurePath(name).stem.rpartition("_") for name in _names(inputs)]
    if strangers := [name for name, (bag, _, view) in zip(_names(inputs), stems, strict=True) if not (bag and view)]:
        raise UserError(f"{strangers[0]} is not named by its bag and view", "names are such as P03152_OL.png")
    classes, views = _class_names(inputs), [view for _, _, view in stems]
    images = [replace(one, bag=bag) for one, (bag, _, _) in zip(images_of(inputs), stems, strict=True)]
    both = score_bags(images, len(classes), HitRule())
    place = {bag: number for number, bag in enumerate(both.bags)}
    columns = {}
    for name in (*sorted(set(views)), "bags"):
        bags = both
        if name != "bags":
            of_view = (image for image, view in zip(images, views, strict=True) if view == name)
            bags = score_bags(of_view, len(classes), HitRule())
        shows = both.shows[[place[bag] for bag in bags.bags]]
        aps = [100 * ranking_precision(shows[:, k], bags.alarm[:, k]) for k in range(len(classes))]
        columns[f"AP, {name}"] = [*aps, _mean(aps)]
    values = zip(*columns.values(), strict=True)
    counts = [*map(int, both.shows.sum(axis=0)), len(both.bags)]
    rows = [Row(*row) for row in zip([*classes, "mean"], counts, values, strict=True)]
    how = "average precision in percent of views and bags by their best score of the class, not interpolated; of bags"
    return ProtocolResult("dvxray", inputs.dataset, inputs.origin, how, tuple(columns), tuple(rows))


ON_ONE_RUN: dict[str, Callable[[Inputs, Subsets], ProtocolResult]] = {
    "pidray": pidray,
    "opixray": opixray,
    "sixray": sixray,
    "dvxray": dvxray,
    "voc": voc,
}


def eds(runs: Sequence[str], evaluation: str = "best") -> ProtocolResult:
    """AP50 of each run on the scanners that it was not trained on, and the mean: EDS has three scanners, so six
    transfers.

    Args:
        evaluation: `best`, `newest` or `iter_999`, of each test set.

    Raises:
        UserError: a folder has no evaluation on another scanner's set.
    """
    rows = []
    for run in runs:
        folder = RunFolder(run)
        source = _trained_on(folder)
        others = [one for one in _evaluations(folder, evaluation) if scanner_of(one.dataset) not in source.split("+")]
        if not others:
            raise UserError(
                f"{run}, trained on {source}, has no evaluation on another scanner",
                f"--eval-only dataloader.test.dataset.names=... with --config-file {folder.config} evaluates it",
            )
        for one in others:
            values = (one.metrics.get(f"bbox{one.suffix}/{name}") for name in ("AP50", "AP"))
            found = tuple(np.nan if value is None else float(value) for value in values)
            rows.append(Row(f"{source} -> {scanner_of(one.dataset)}", one.images or 0, found))
    means = tuple(_mean([row.values[place] for row in rows]) for place in range(2))
    notes = [] if len(rows) == 6 else [f"EDS' mean is of six transfers, here are {len(rows)}"]
    how = "COCO's box AP50 and AP in percent of a run on each scanner that it was not trained on"
    rows.append(Row("mean", sum(row.images for row in rows), means))
    origin = ", ".join(map(str, runs))
    return ProtocolResult("eds", "", origin, how, ("AP50", "AP"), tuple(rows), tuple(notes))


def _need(subsets: Subsets, expected: Sequence[str]) -> Subsets:
    if sorted(subsets) != sorted(expected):
        raise UserError(
            f"the subsets are {', '.join(subsets)}, but the protocol has {', '.join(expected)}",
            " ".join(f"--subset {name}=FILE" for name in expected),
        )
    return {name: subsets[name] for name in expected}


def _occlusion_levels(inputs: Inputs) -> dict[str, list[int]]:
    """Images by the highest level of their items, where all that have items have one of the three."""
    levels: dict[Any, int] = {}
    for annotation in inputs.ground_truth["annotations"]:
        text = str(annotation.get("occlusion", "")).upper().removeprefix("OL")
        if text not in ("1", "2", "3"):
            return {}
        levels[annotation["image_id"]] = max(int(text), levels.get(annotation["image_id"], 0))
    ids = [image["id"] for image in inputs.ground_truth["images"]]
    parts = {name: [p for p, one in enumerate(ids) if levels.get(one) == n] for n, name in enumerate(OPIXRAY, 1)}
    return {name: places for name, places in parts.items() if places}


def _voc_row(name: str, images: Sequence[BoxesOfImage], inputs: Inputs) -> Row:
    eleven, all_points = voc_precisions(images, len(inputs.ground_truth["categories"]))
    return Row(name, len(images), (100 * _mean(eleven), 100 * _mean(all_points)))


def _voc_result(
    protocol: str, inputs: Inputs, images: Sequence[BoxesOfImage], rows: list[Row], notes: Sequence[str]
) -> ProtocolResult:
    classes = _class_names(inputs)
    eleven, all_points = voc_precisions(images, len(classes))
    counts = _images_with(images, len(classes))
    of_classes = [
        Row(name, count, (100 * float(a), 100 * float(b)))
        for name, count, a, b in zip(classes, counts, eleven, all_points, strict=True)
    ]
    rows = [*rows, Row("all", len(images), (100 * _mean(eleven), 100 * _mean(all_points))), *of_classes]
    how = "PASCAL VOC's AP50 in percent: the mean of classes for parts of the set, then of each class over all"
    columns = ("AP50, 11 points", "AP50, all points")
    return ProtocolResult(protocol, inputs.dataset, inputs.origin, how, columns, tuple(rows), tuple(notes))


def _images_with(images: Sequence[BoxesOfImage], classes: int) -> list[int]:
    """How many images have an item of each class."""
    return [sum(k in image.item_classes[~image.crowd] for image in images) for k in range(classes)]


def _trained_on(folder: RunFolder) -> str:
    try:
        name = json.loads(folder.record.read_bytes())["datasets"]["train"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise UserError(
            f"{folder.record} does not tell what the run was trained on",
            "give the train.output_dir of a training",
        )
    return "+".join(map(scanner_of, name.split("+")))


def _evaluations(folder: RunFolder, wanted: str) -> list[Evaluation]:
    """One of each test set."""
    by_set: dict[str, list[Evaluation]] = {}
    for one in folder.evaluations():
        # of sets that are evaluated apart there is a mean, too
        if len(one.parts) == 1 and (not one.suffix or one.folder.name == wanted):
            by_set.setdefault(one.dataset, []).append(one)
    chosen = []
    for _, own in sorted(by_set.items()):
        if wanted not in ("best", "newest"):
            own = [one for one in own if one.folder.name == wanted]
        best = best_evaluation(own) if wanted == "best" else None
        if best:
            warn_of_unread(own, best)
        chosen += [best or own[-1]] if own else []
    return chosen


def _names(inputs: Inputs) -> list[str]:
    return [str(image["file_name"]) for image in inputs.ground_truth["images"]]


def _class_names(inputs: Inputs) -> list[str]:
    return inputs.matches("bbox").class_names


def _has(inputs: Inputs, task: IouType) -> bool:
    """Whether boxes or masks can be judged; boxes always can."""
    truth = any(annotation.get("segmentation") for annotation in inputs.ground_truth["annotations"])
    return task == "bbox" or (truth and all(detection.get("segmentation") for detection in inputs.detections))


def _task_names(tasks: Sequence[str]) -> list[str]:
    return [{"bbox": "box", "segm": "mask"}[task] for task in tasks]


def _mean(values: Sequence[float] | np.ndarray) -> float:
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else np.nan
