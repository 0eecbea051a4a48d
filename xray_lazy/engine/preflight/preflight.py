"""Look for every fault of an experiment before anything is built or written."""

import itertools
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlparse

from detectron2.config import instantiate
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager
from omegaconf import DictConfig, OmegaConf

from xray_lazy.config import Fault, check_config, flatten
from xray_lazy.data.augmentation.mixing import BringsItems
from xray_lazy.data.check.box_form import find_box_form
from xray_lazy.data.check.image_facts import darkness_among
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.sampling import check_together
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.epochs import check_periods
from xray_lazy.engine.evaluated_sets import nodes_of_sets
from xray_lazy.engine.preflight.required_nodes import check_nodes
from xray_lazy.engine.preflight.setting_limits import check_settings
from xray_lazy.engine.preflight.start_checks import check_start
from xray_lazy.engine.preflight.trial_build import build_on_trial, without_log
from xray_lazy.engine.weights.class_axes import number_of_classes_keys
from xray_lazy.engine.weights.class_rows import ClassRows
from xray_lazy.engine.weights.weightless import build_weightless
from xray_lazy.engine.weights.weights_file import read_weights_file
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

logger = logging.getLogger(__name__)

TRAIN, TEST = "dataloader.train.dataset", "dataloader.test.dataset"
# how many detections of an image a model gives at most
DETECTION_LIMITS = ("test_topk_per_image", "detections_per_image")
# where evaluation meets a wrong value
EVALUATED = ("model", "test", "dataloader.test", "dataloader.test_apart", "dataloader.evaluator")
EVALUATED += ("train.output_dir", "train.seed")


def check_experiment(cfg: DictConfig, world_size: int, training: bool = True) -> list[Fault]:
    """All faults of an experiment: its nodes and arguments, data sets, classes, batch size and weights, and what
    hooks and evaluators refuse.

    Args:
        cfg: the whole config.
        world_size: processes that will share a batch.
        training: False looks only at what evaluation needs.
    """
    faults = check_parts(cfg, training)
    if faults:
        return faults  # what follows builds the data sets, for which the nodes must be sound
    faults += check_numbers(cfg, world_size) if training else []
    faults += [*_check_weights(cfg, training), *check_data(cfg, training)]
    if training and not faults:
        faults += [*_check_class_map(cfg), *_check_together(cfg, world_size)]
    return faults or list(check_start(cfg, training))


def check_data(cfg: DictConfig, training: bool = True) -> list[Fault]:
    """The faults of an experiment's data sets, and what doesn't fit between them and the model."""
    faults = []
    trained: DetectionDataset | None = None
    datasets: list[tuple[str, DetectionDataset]] = []
    try:
        nodes = [(TEST, node.test.dataset) for node in nodes_of_sets(cfg.dataloader).values()]
    except UserError as error:
        return [Fault("dataloader.test_apart", error.message, error.fix)]
    for key, node in [(TRAIN, cfg.dataloader.train.dataset), *nodes] if training else nodes:
        try:
            datasets.append((key, instantiate(node)))
        except UserError as error:
            faults.append(Fault(key, error.message, error.fix))
    for key, dataset in datasets:
        faults += _check_dataset(key, dataset)
        faults += _check_masks(cfg, key, dataset)
        trained = dataset if key == TRAIN else trained
    if trained is not None:
        faults += _check_trained(cfg, TRAIN, trained)
        _warn_of_dark_images(trained)
    return [*faults, *_check_classes(cfg, datasets)]


def warn_of_uncounted_detections(cfg: DictConfig) -> None:
    """Tell where a model may give more detections of an image than the evaluator counts of a class."""
    values = {key: value for key, value in flatten(cfg).items() if isinstance(value, int)}
    # there may be several evaluators
    limits = [key for key in values if key.startswith("dataloader.evaluator.") and key.endswith(".max_detections")]
    models = ("model.", "test.tta.") if values.get("test.tta.enabled") else ("model.",)
    given = [key for key in values if key.startswith(models) and key.rpartition(".")[2] in DETECTION_LIMITS]
    for limit, key in itertools.product(limits, given):
        if values[key] > values[limit]:
            logger.warning(
                "%s is %d, but evaluation counts the %d best detections of a class on an image, and items that "
                "only others show are missed; to count all: %s=%d",
                *(key, values[key], values[limit], limit, values[key]),
            )


def check_parts(cfg: DictConfig, training: bool = True) -> list[Fault]:
    """The faults that show without data and weights: missing nodes, arguments, values, and what can't be built."""
    faults = list(check_nodes(cfg, training)) or check_config(cfg)
    faults = faults or [*check_settings(cfg, None if training else EVALUATED), *check_periods(cfg)]
    faults = faults or list(_check_channels(cfg))
    return faults or build_on_trial(cfg, training)


def _check_channels(cfg: DictConfig) -> Iterator[Fault]:
    """Images that would be evaluated with another order of channels than those that the model learns from."""
    trained = "dataloader.train.mapper.image_format"
    due = OmegaConf.select(cfg, trained)
    for key in ("dataloader.test.mapper.image_format", "test.tta.model.image_format"):
        given = OmegaConf.select(cfg, key)
        if due and given and given != due:
            yield Fault(key, f"it is {given!r}, but {trained} is {due!r}", f"give both the same, e.g. {key}={due}")


def check_numbers(cfg: DictConfig, world_size: int) -> Iterator[Fault]:
    """A batch that can't be spread over processes and parts."""
    batch, parts = cfg.dataloader.train.total_batch_size, cfg.train.accumulate * world_size
    if batch % parts:
        accumulation = f" in {cfg.train.accumulate} parts" if cfg.train.accumulate > 1 else ""
        yield Fault(
            "dataloader.train.total_batch_size",
            f"a batch of {counted(batch, 'image')} can't be spread evenly over "
            f"{counted(world_size, 'process', 'processes')}{accumulation}",
            f"set it to a multiple of {parts}, e.g. {max(batch // parts, 1) * parts}",
        )


def _check_weights(cfg: DictConfig, training: bool) -> Iterator[Fault]:
    key, path = "train.init_checkpoint", cfg.train.init_checkpoint
    if not path:
        if not training:
            yield Fault(key, "no weights are named", "give train.init_checkpoint=OUTPUT_DIR/model_best.pth")
        return
    if not isinstance(path, str):
        yield Fault(key, f"{path!r} is not a text", "give the path or the URL of a file")
        return
    if urlparse(path).scheme and (faults := list(_check_download(key, path))):
        yield from faults
        return
    checkpointer = Checkpointer(build_weightless(cfg.model))
    checkpointer.must_fit = not training
    try:
        with without_log(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of each weight that a tensor without values doesn't take
            checkpointer.load(path, checkpointables=[])
    except UserError as error:
        yield Fault(key, error.message, error.fix)


def _check_download(key: str, url: str) -> Iterator[Fault]:
    """Fetch weights once, before processes start: detectron2 keeps them in its cache."""
    try:
        with without_log():
            PathManager.get_local_path(url.split("?")[0])
    except UserError as error:
        yield Fault(key, error.message, error.fix)
    except Exception as error:  # whatever is wrong with network, proxy or server
        yield Fault(
            key,
            f"can't fetch {url} ({type(error).__name__}: {error})",
            "on a machine without internet give the path of a file, or train.init_checkpoint='' to train from scratch",
        )


def _check_class_map(cfg: DictConfig) -> Iterator[Fault]:
    if not (cfg.train.get("class_map") or cfg.train.get("checkpoint_classes") is not None):
        return
    dataset = instantiate(cfg.dataloader.train.dataset)
    try:
        rows = ClassRows(cfg, build_weightless(cfg.model), dataset.class_names)
        if cfg.train.init_checkpoint:
            path = PathManager.get_local_path(cfg.train.init_checkpoint.split("?")[0])
            rows.check(read_weights_file(path), path)
    except UserError as error:
        key, _, message = error.message.partition(": ")
        yield Fault(key, message, error.fix)


def _check_dataset(key: str, dataset: DetectionDataset) -> Iterator[Fault]:
    names = [record["file_name"] for record in dataset]
    folders = set(map(os.path.dirname, names))
    # one listing of each folder: a look at every file takes minutes on a network file system
    present = {os.path.join(f, name) for f in folders if os.path.isdir(f) for name in os.listdir(f)}
    missing = [name for name in names if name not in present]
    if missing:
        yield Fault(
            key,
            f"{len(missing)} of {counted(len(names), 'image')} of {dataset.name} "
            f"{'is' if len(missing) == 1 else 'are'} not there, e.g. {missing[0]}",
            "`tools/dataset.py check` lists them; `repair` corrects names whose file is there, and with its flag for "
            "missing images leaves the others out",
        )
    form = find_box_form(
        ({"bbox": BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYWH_ABS)}, (r["width"], r["height"]))
        for r in dataset
        for a in r["annotations"]
        if "bbox" in a
    )
    if form:
        yield Fault(key, f"the boxes of {dataset.name} are not [x, y, width, height] in pixels; {form[0]}", form[1])


def _warn_of_dark_images(dataset: DetectionDataset) -> None:
    """Say so where training sees hardly anything of 16-bit images; a few of a set tell."""
    if darkness := darkness_among(dataset, lambda record: record["file_name"]):
        logger.warning("%s: %s: `tools/dataset.py check` lists all", dataset.name, darkness)


def _check_classes(cfg: DictConfig, datasets: Sequence[tuple[str, DetectionDataset]]) -> Iterator[Fault]:
    if len({dataset.class_names for _, dataset in datasets}) > 1:
        (_, train), *others = datasets
        key, test = next((key, one) for key, one in others if one.class_names != train.class_names)
        yield Fault(
            key,
            f"{train.name} and {test.name} have different classes or another order of them: "
            f"{', '.join(train.class_names)} / {', '.join(test.class_names)}",
            "make the lists `categories` of their JSON files equal",
        )
        return
    if datasets:
        yield from _check_number_of_classes(cfg, *datasets[0])


def _check_number_of_classes(cfg: DictConfig, key: str, dataset: DetectionDataset) -> Iterator[Fault]:
    there = len(dataset.class_names)
    # weights that are only evaluated have the classes that they have
    unless = "" if key == TRAIN else " if the weights have so many; else evaluate a set of the model's classes"
    for model_key in number_of_classes_keys(cfg.model, "model"):
        number = OmegaConf.select(cfg, model_key)
        if number != there:
            yield Fault(
                model_key,
                f"the model has {counted(number, 'class', 'classes')}, {dataset.name} has {there} "
                f"({', '.join(dataset.class_names[:20])})",
                f"set {model_key}={there}{unless}",
            )


def _check_masks(cfg: DictConfig, key: str, dataset: DetectionDataset) -> Iterator[Fault]:
    wanted = OmegaConf.select(cfg, "dataloader.train.mapper.with_masks")
    if wanted and not dataset.has_masks and any(record["annotations"] for record in dataset):
        yield Fault(
            key,
            f"the model learns masks, but {dataset.name} has boxes only",
            "take configs/xray/faster_rcnn_r50.py for sets without masks",
        )


def _check_together(cfg: DictConfig, world_size: int) -> Iterator[Fault]:
    """A batch that breaks what the sampler keeps together."""
    train = cfg.dataloader.train
    try:
        batch = train.total_batch_size // (cfg.train.accumulate * world_size)
        check_together(instantiate(train.sampler), instantiate(train.dataset), batch)
    except UserError as error:
        yield Fault("dataloader.train", error.message, error.fix)


def _brought_classes(cfg: DictConfig, dataset: DetectionDataset) -> set[str]:
    """Of items that training puts into its images; a part that can't be built is another check's fault."""
    brought: set[str] = set()
    nodes = OmegaConf.select(cfg, "dataloader.train.mapper.mixing")
    occupied = {any(not annotation["iscrowd"] for annotation in record["annotations"]) for record in dataset}
    for node in nodes if OmegaConf.is_list(nodes) else ():
        with suppress(UserError):
            part = instantiate(node)
            if isinstance(part, BringsItems):
                brought |= part.brought_classes(into_empty=False in occupied, into_occupied=True in occupied)
    return brought


def _check_trained(cfg: DictConfig, key: str, dataset: DetectionDataset) -> Iterator[Fault]:
    with_masks = OmegaConf.select(cfg, "dataloader.train.mapper.with_masks") and dataset.has_masks
    trained = dataset.trained_masks if with_masks else dataset.trained_boxes
    what = "instance with a mask" if with_masks and any(dataset.trained_boxes) else "instance"
    look = "`tools/dataset.py check` tells why: e.g. all are crowd regions (iscrowd 1), or their ids don't match"
    without = [name for name, count in zip(dataset.class_names, trained, strict=True) if not count]
    if without:  # else no library has to be read
        brought = _brought_classes(cfg, dataset)
        without = [name for name in without if name not in brought]
    if len(without) == len(trained):
        yield Fault(key, f"{dataset.name} has no {what} to train on", look)
        return
    if without:
        yield Fault(
            key,
            f"{dataset.name} has no {what} to train on of {counted(len(without), 'class', 'classes')}: "
            f"{', '.join(without[:20])}",
            f"annotate some, or remove what is not there from `categories`; {look}",
        )
