"""Read what is analyzed: detections of a run's evaluation or of a file, and the ground truth that belongs to them."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from xray_lazy.data.bag_names import bag_fields
from xray_lazy.data.check.values import is_finite
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.coco_instance import mask_fault
from xray_lazy.data.dataset_places import scanner_of
from xray_lazy.data.datasets import LEFT_OUT
from xray_lazy.data.masks.run_lengths import first_unsound
from xray_lazy.errors import UserError
from xray_lazy.evaluation.coco_metrics import IouType, Problem
from xray_lazy.evaluation.matching import Matches, Matching
from xray_lazy.run_folder import (
    EVALUATIONS,
    METRICS,
    PREDICTIONS,
    Evaluation,
    RunFolder,
    best_evaluation,
    number_or_none,
)
from xray_lazy.utils.json_files import read_json
from xray_lazy.utils.wording import counted, tool_command

if TYPE_CHECKING:
    from xray_lazy.data.datasets import DetectionDataset
    from xray_lazy.data.image_reader import Reader

NAMES_NAME = "annotations.json"  # of the images that `tools/predict.py` made the detections on
_SHOWN = 5
_CHARACTERS_SHOWN = 200
MOST_OUTSIDE = 0.05  # share of detections
APART = "evaluated_in"  # of an image: the name of its set, where several were evaluated apart

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Ground truth and detections that fit together.

    Attributes:
        origin: the evaluation's folder, or the file of the detections.
        evaluation: its name, such as `xray_smith_val/iter_999`, or the file's.
        ground_truth: the content of a COCO file; masks are compressed RLE, `iscrowd` is there, each image has its
            `scanner`, and `file_name` is a path; of sets that were evaluated apart it has its set's name, `APART`.
        folder: where results go by default.
        notes: why figures of these scores may not be what they seem.
    """

    dataset: str
    origin: str
    evaluation: str
    ground_truth: dict[str, Any]
    detections: list[dict[str, Any]]
    max_detections: int
    folder: Path
    reader: "Reader | None" = field(default=None, compare=False)
    notes: tuple[str, ...] = ()
    _matches: dict[IouType, Matches] = field(default_factory=dict, init=False, repr=False, compare=False)

    def matching(self, task: IouType) -> Matching:
        """The detections matched to the ground truth.

        Only its table is kept for `matches`: the rest is larger than the detections themselves.
        """
        matching = Matching(Problem.build(self.ground_truth, self.detections, task, self.max_detections))
        self._matches[task] = matching.matches
        return matching

    def matches(self, task: IouType) -> Matches:
        """The table of the matching, made once."""
        return self._matches[task] if task in self._matches else self.matching(task).matches


def inputs_of_run(
    output_dir: str | os.PathLike,
    evaluation: str = "best",
    ground_truth: str | None = None,
    images: str | os.PathLike | None = None,
    max_detections: int | None = None,
) -> Inputs:
    """An evaluation of a run.

    Args:
        evaluation: `best` (the highest segm/AP, else bbox/AP), `newest`, `iter_999`, or `xray_smith_val/iter_999`.
        ground_truth, images: as `load_truth`; by default the set that the run's config names.
        max_detections: how many count per image and class, the best first; by default as many as in the evaluation.

    Raises:
        UserError: there is no such run, evaluation or set, or they do not fit together.
    """
    folder = Path(output_dir)
    found = find_evaluation(folder, evaluation)
    sets: list[str] = []
    if len(found.parts) > 1 and not ground_truth:
        dataset, detections, sets = _joined(folder, found)
    else:
        dataset = load_truth(ground_truth, images) if ground_truth else _dataset_of_run(folder, found.dataset)
        _check_evaluation(found, dataset)
        detections = read_detections(found.predictions)
    truth = coco_of(dataset)
    for image, name in zip(truth["images"], sets, strict=False):
        image[APART] = name
    check_fit(truth, detections, dataset.name, str(found.predictions))
    limit = max_detections or int(found.parts[0].content.get("max_detections") or 100)
    results = RunFolder(folder).analysis / found.name
    reader = _reader_of_run(folder)
    return Inputs(dataset.name, str(found.folder), found.name, truth, detections, limit, results, reader)


def inputs_of_files(
    predictions: str | os.PathLike,
    ground_truth: str,
    images: str | os.PathLike | None = None,
    max_detections: int | None = None,
) -> Inputs:
    """Detections of any origin as COCO results in a JSON file.

    Args:
        ground_truth, images: as `load_truth`.
        max_detections: how many count per image and class, the best first; by default COCO's 100.

    Raises:
        UserError: a file is missing or is not what it should be, or they do not fit together.
    """
    predictions = Path(predictions)
    detections, dataset = read_detections(predictions), load_truth(ground_truth, images)
    truth = coco_of(dataset)
    named = predictions.with_name(NAMES_NAME)
    if named.is_file():
        detections = with_ids_of(truth, detections, named)
    check_fit(truth, detections, dataset.name, str(predictions))
    folder = RunFolder(predictions.parent).analysis / predictions.stem
    return Inputs(dataset.name, str(predictions), predictions.name, truth, detections, max_detections or 100, folder)


def find_evaluation(run_folder: Path, wanted: str = "best") -> Evaluation:
    """The evaluation of a run that `inputs_of_run` takes.

    Raises:
        UserError: the run has none such, or has some of several sets and none is named.
    """
    if not run_folder.is_dir():
        raise UserError(f"there is no run folder {run_folder}", "give the train.output_dir of a training")
    files = RunFolder(run_folder)
    files.check_is_no_sweep()
    present = [evaluation for evaluation in files.evaluations() if evaluation.has_predictions]
    if not present:
        raise UserError(
            f"{run_folder} has no evaluation: no {EVALUATIONS}/<dataset>/iter_<n>/{PREDICTIONS}",
            _how_to_evaluate(files),
        )
    names = ", ".join(evaluation.name for evaluation in present)
    if wanted not in ("best", "newest"):
        chosen = [evaluation for evaluation in present if wanted in (evaluation.name, evaluation.folder.name)]
        if not chosen:
            raise UserError(f"{run_folder} has no evaluation {wanted}", f"it has {names}")
    else:
        # with test-time augmentation a model is better than itself
        chosen = [evaluation for evaluation in present if not evaluation.suffix] or present
    # of sets that are evaluated apart there is one of all together
    chosen = [evaluation for evaluation in chosen if len(evaluation.parts) > 1] or chosen
    if len({evaluation.dataset for evaluation in chosen}) > 1:
        raise UserError(f"{run_folder} has evaluations on several data sets", f"choose one with --evaluation: {names}")
    if wanted != "best":
        return chosen[-1]
    best = best_evaluation(chosen) or chosen[-1]
    warn_of_unread(files.evaluations(), best)
    return best


def warn_of_unread(evaluations: Sequence[Evaluation], best: Evaluation) -> None:
    """Tell of those of the same set that may be better than the one that is taken as the best."""
    for one in evaluations:
        if (one.dataset, one.suffix) != (best.dataset, best.suffix):
            continue
        if one.fault:
            logger.warning(
                "%s can't be read (%s): %s is taken for the best without it", one.folder / METRICS, one.fault, best.name
            )
        elif not one.has_predictions and (one.quality() or 0) > (best.quality() or 0):
            logger.warning("%s is better than %s, which is taken, but has no %s", one.name, best.name, PREDICTIONS)


def _how_to_evaluate(files: RunFolder) -> str:
    if not files.config.is_file():
        return "give the train.output_dir of a training"
    weights = next(iter(files.weights()), None)
    if weights is None:
        return "wait for its first evaluation, which comes as train.eval_period says"
    evaluate = tool_command(
        "lazy_train", "--config-file", files.config, "--eval-only", f"train.init_checkpoint={weights}"
    )
    return f"{evaluate}, or another of its checkpoints"


def load_truth(ground_truth: str, images: str | os.PathLike | None = None) -> "DetectionDataset":
    """A data set by its name (`xray_smith_val`) or its JSON file.

    Args:
        images: the folder of a JSON file's images; needed where the file has no sizes of them.
    """
    from xray_lazy.data.datasets import load_datasets

    path = Path(ground_truth)
    if path.suffix != ".json":
        return load_datasets(ground_truth)
    unsized = sum(not (image.get("width") and image.get("height")) for image in read_coco(path)["images"])
    if unsized and images is None:
        raise UserError(
            f"{path} does not tell the size of {counted(unsized, 'image')}",
            "name the folder of its images with --images",
        )
    return load_datasets({"json_file": str(path), "image_root": str(images or path.parent)})


def coco_of(dataset: "DetectionDataset") -> dict[str, Any]:
    """A data set as `Inputs.ground_truth`, with the ids of its JSON file, and `occlusion`, `bag` and `view` where that
    has them."""
    from xray_lazy.evaluation.ground_truth import check_masks, coco_content

    check_masks(dataset)
    content = coco_content(dataset, dataset)
    for image, record in zip(content["images"], dataset, strict=True):
        image["scanner"] = scanner_of(record.get("dataset_name", dataset.name))
        if LEFT_OUT in record:
            image[LEFT_OUT] = record[LEFT_OUT]
        image.update(bag_fields(record))
    instances = (instance for record in dataset for instance in record["annotations"])
    for annotation, instance in zip(content["annotations"], instances, strict=True):
        annotation["id"] = instance["id"]
        if "occlusion" in instance:
            annotation["occlusion"] = instance["occlusion"]
    return content


def read_detections(path: str | os.PathLike) -> list[dict[str, Any]]:
    """COCO results from a JSON file.

    Raises:
        UserError: it is not there, or holds something else.
    """
    content = read_json(path, f"there is no file of detections {path}", "give a JSON file of COCO results")
    places = enumerate(content) if isinstance(content, list) else [(None, content)]
    bad = next(((place, one) for place, one in places if place is None or not _is_result(one)), None)
    if bad:
        where = "it" if bad[0] is None else f"entry {bad[0]}"
        raise UserError(
            f"{path} does not hold COCO results: {where} is {_shortened(bad[1])}",
            "it should be a list of objects with image_id, category_id, score (a finite number), and bbox (x, y, "
            "width, height) or segmentation or both",
        )
    if fault := _fault_in_masks(content):
        raise UserError(
            f"{path} has a mask that can't be read: {fault}",
            "write masks as COCO's RLE, {size: [height, width], counts: run lengths}, or as polygons [x1, y1, x2, ...]",
        )
    if beyond := next((one["score"] for one in content if not -1e-4 <= one["score"] <= 1 + 1e-4), None):  # rounding
        raise UserError(
            f"{path} has scores that are no probabilities, such as {beyond}",
            "scores are in 0..1: divide percentages by 100, put logits through a sigmoid",
        )
    return content


def _is_result(one: Any) -> bool:
    if not isinstance(one, dict) or not all(_is_id(one.get(key)) for key in ("image_id", "category_id")):
        return False
    box = one.get("bbox")
    boxed = isinstance(box, list) and len(box) == 4 and all(map(is_finite, box))
    return number_or_none(one.get("score")) is not None and (boxed or (not box and "segmentation" in one))


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _fault_in_masks(results: Sequence[Mapping[str, Any]]) -> str:
    """The first entry whose mask can't be drawn, and why, or nothing."""
    masks = [(place, one["segmentation"]) for place, one in enumerate(results) if one.get("segmentation")]
    if fault := next((f"entry {place}: {why}" for place, mask in masks if (why := _mask_fault(mask))), ""):
        return fault
    texts = [(place, mask) for place, mask in masks if isinstance(mask, dict) and isinstance(mask["counts"], str)]
    unsound = first_unsound([mask for _, mask in texts])
    return "" if unsound is None else f"entry {texts[unsound][0]}: its runs do not add up to its size"


def _mask_fault(mask: Any) -> str:
    """Why the mask of a detection can't be drawn, or nothing."""
    if fault := mask_fault(mask):
        return fault
    if isinstance(mask, list) and not any(len(part) >= 6 for part in mask):
        return "no polygon of three points"
    return ""


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _CHARACTERS_SHOWN else f"{text[:_CHARACTERS_SHOWN]} ..."


def with_ids_of(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], named: Path
) -> list[dict[str, Any]]:
    """Detections under the ground truth's ids of their images, which are found by name.

    Args:
        named: COCO file with the names of the images under the detections' own ids.

    Raises:
        UserError: an image with detections is not in the ground truth, or several there could be it.
    """
    names = {image.get("id"): str(image.get("file_name")) for image in read_coco(named, needed=("images",))["images"]}
    ids_by_last_part: dict[str, list] = {}
    truth_names = {image["id"]: image["file_name"] for image in ground_truth["images"]}
    for image_id, name in truth_names.items():
        ids_by_last_part.setdefault(PurePath(name).name, []).append(image_id)
    ids = {}
    for image_id in {detection["image_id"] for detection in detections} & names.keys():
        name = PurePath(names[image_id])
        fitting = ids_by_last_part.get(name.name, [])
        if image_id in fitting:
            fitting = [image_id]
        elif len(fitting) > 1:
            fitting = [one for one in fitting if PurePath(truth_names[one]).parts[-len(name.parts) :] == name.parts]
        if len(fitting) != 1:
            count = counted(len(fitting), "image") if fitting else "no image"
            raise UserError(
                f"the ground truth has {count} with the name {name}, which {named} gives to the id {image_id!r}",
                "give the ground truth of these images, or predict on its JSON file",
            )
        ids[image_id] = fitting[0]
    return [
        {**detection, "image_id": ids.get(detection["image_id"], detection["image_id"])} for detection in detections
    ]


def check_fit(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], truth_name: str, origin: str
) -> None:
    """Refuse detections on images, or of categories, that the ground truth has not, or outside of its images.

    Raises:
        UserError: with the first such ids, and those that there are.
    """
    fix = "give the ground truth that the detections were made on (--ground-truth)"
    for key, entries in (("image_id", "images"), ("category_id", "categories")):
        known = {one["id"] for one in ground_truth[entries]}
        used = {detection[key] for detection in detections}
        unknown = sorted(used - known, key=str)
        if unknown:
            raise UserError(
                f"{len(unknown)} of the {len(used)} {entries} that {origin} has detections for are not in the ground "
                f"truth {truth_name}: id {_listed(unknown)}; it has {_listed(sorted(known, key=str))}",
                fix,
            )
    negative = [d["image_id"] for d in detections if d.get("bbox") and min(d["bbox"][2:]) < 0]
    if negative:
        raise UserError(
            f"{counted(len(negative), 'detection')} of {origin} with a negative width or height, the first on "
            f"image {negative[0]!r}",
            "write boxes as x, y, width, height",
        )
    sizes = {image["id"]: (image["width"], image["height"]) for image in ground_truth["images"]}
    outside = [d["image_id"] for d in detections if d.get("bbox") and not _touches(d["bbox"], *sizes[d["image_id"]])]
    # ids that count from 1 fit any set; a few boxes may be a model's that does not clip them
    if len(outside) > MOST_OUTSIDE * len(detections):
        raise UserError(
            f"{len(outside)} of {counted(len(detections), 'detection')} of {origin} "
            f"{'lies' if len(outside) == 1 else 'lie'} outside of their images in the ground "
            f"truth {truth_name}, the first on image {outside[0]!r}",
            fix,
        )


def _touches(box: Sequence[float], width: int, height: int) -> bool:
    x, y, w, h = box
    return x < width and y < height and x + w > 0 and y + h > 0


def _listed(ids: Sequence) -> str:
    shown = ", ".join(repr(one) for one in ids[:_SHOWN])
    return shown + (f", ... ({len(ids)} in all)" if len(ids) > _SHOWN else "")


def _dataset_of_run(run_folder: Path, name: str) -> "DetectionDataset":
    """The set that an evaluation was on: the one of the run's config, or the one of that name."""
    from detectron2.config import instantiate
    from omegaconf import OmegaConf

    from xray_lazy.config import load_config
    from xray_lazy.data.datasets import load_datasets
    from xray_lazy.engine.evaluated_sets import nodes_of_sets

    config = RunFolder(run_folder).config
    dataloader = OmegaConf.select(load_config(config), "dataloader") if config.is_file() else None
    if dataloader is not None and OmegaConf.select(dataloader, "test.dataset") is not None:
        for node in nodes_of_sets(dataloader).values():
            dataset = instantiate(node.test.dataset)
            if dataset.name == name:
                return dataset
    try:
        return load_datasets(name.split("+"))
    except UserError as error:
        raise UserError(
            f"the data set {name} of the evaluation is not that of the run's config: {error.message}",
            "name the ground truth with --ground-truth",
        ) from None


def _reader_of_run(run_folder: Path) -> "Reader | None":
    from omegaconf import OmegaConf

    from xray_lazy.config import load_config
    from xray_lazy.data.image_reader import reader_of

    config = RunFolder(run_folder).config
    dataloader = OmegaConf.select(load_config(config), "dataloader") if config.is_file() else None
    return None if dataloader is None else reader_of(dataloader)


def _joined(run_folder: Path, evaluation: Evaluation) -> tuple["DetectionDataset", list[dict[str, Any]], list[str]]:
    """The sets of an evaluation as one, all their detections with its ids, and the name of each image's set."""
    from xray_lazy.data.datasets import join_datasets

    datasets = [_dataset_of_run(run_folder, one.dataset) for one in evaluation.parts]
    whole, detections, before = join_datasets(datasets), [], 0
    for one, dataset in zip(evaluation.parts, datasets, strict=True):
        _check_evaluation(one, dataset)
        own = read_detections(one.predictions)
        check_fit(coco_of(dataset), own, dataset.name, str(one.predictions))
        images = {record["image_id"]: number for number, record in enumerate(dataset, before + 1)}
        categories = {
            category: whole.category_ids[whole.class_names.index(name)]
            for category, name in zip(dataset.category_ids, dataset.class_names, strict=True)
        }
        detections += [
            {**d, "image_id": images[d["image_id"]], "category_id": categories[d["category_id"]]} for d in own
        ]
        before += len(dataset)
    return whole, detections, [dataset.name for dataset in datasets for _ in dataset]


def _check_evaluation(evaluation: Evaluation, dataset: "DetectionDataset") -> None:
    """Refuse a set that is not the evaluation's, or has changed since: ids alone would often fit."""
    images = evaluation.images
    if images is not None and images != len(dataset):
        raise UserError(
            f"{evaluation.folder} is of {counted(images, 'image')}, but data set {dataset.name} has {len(dataset)}",
            "evaluate again, or name the ground truth of the evaluation with --ground-truth",
        )
    recorded = [name.removeprefix("AP-") for name in evaluation.content.get("bbox", {}) if name.startswith("AP-")]
    if recorded and recorded != list(dataset.class_names):
        raise UserError(
            f"{evaluation.folder} has the classes {', '.join(recorded)}, but data set {dataset.name} has "
            f"{', '.join(dataset.class_names)}",
            "evaluate again, or name the ground truth of the evaluation with --ground-truth",
        )


def same_truth(first: Inputs, second: Inputs) -> Inputs:
    """The second one's detections on the first one's ground truth.

    Raises:
        UserError: the two are not of the same images and classes.
    """
    for key, thing in (("images", "images"), ("categories", "classes")):
        a, b = ({one["id"]: _identity(one) for one in inputs.ground_truth[key]} for inputs in (first, second))
        if a != b:
            equal = sum(b.get(one) == name for one, name in a.items())
            raise UserError(
                f"{first.origin} and {second.origin} are not of the same {thing}: {first.dataset} has "
                f"{len(a)}, {second.dataset} has {len(b)}, and {equal} are equal",
                "compare runs on the same data set; --ground-truth evaluates both against one",
            )
    # what is on the same annotations already keeps its matches
    return second if second.ground_truth == first.ground_truth else replace(second, ground_truth=first.ground_truth)


def _identity(one: Mapping[str, Any]) -> str:
    return str(one["name"]) if "name" in one else Path(one["file_name"]).name
