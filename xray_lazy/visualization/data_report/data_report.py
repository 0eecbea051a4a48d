"""What `tools/visualize.py data` does: images of ground truth, augmentation, statistics, or the browser."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from xray_lazy.data.check import CocoSet
from xray_lazy.errors import UserError
from xray_lazy.utils.results_place import check_json_file, check_no_input, check_result_file
from xray_lazy.utils.wording import counted
from xray_lazy.visualization.image_choice import Choice

# what is written there
RESULTS = ("sheet_*.jpg", "pictures/*.jpg", "augmented.jpg", "part_*.jpg", "*.png", "statistics.json", "classes.csv")


@dataclass(frozen=True)
class DataRequest:
    """What to show.

    Attributes:
        sets: names, and pairs of a JSON file and its folder; none means all sets under `root`.
        faulty: only images with faults; with `fault_kinds`, with these.
        config_file: gives `augmented` its training mapper, and its data set where `sets` is empty.
        draws: of each image, `augmented`.
        each_part: show each part of the augmentation by itself, too.
    """

    sets: Sequence[str] = ()
    root: str | None = None
    scanners: Sequence[str] = ()
    splits: Sequence[str] = ()
    choice: Choice = field(default_factory=Choice)
    count: int = 20
    seed: int = 0
    columns: int = 4
    grey: bool = False
    faulty: bool = False
    fault_kinds: Sequence[str] = ()
    config_file: str | None = None
    overrides: Sequence[str] = ()
    draws: int = 4
    each_part: bool = False


def show_images(request: DataRequest, folder: str | Path, report: Callable[[str], None]) -> None:
    """Write images and sheets of them into `folder`; `report` gets a line about each sheet.

    Raises:
        UserError: a set, a class or a kind of fault is not there, or no image is as asked for.
    """
    from xray_lazy.data.wanted_sets import load_side_by_side, open_wanted_sets
    from xray_lazy.visualization.data_report.faulty_images import choose_faulty, declared_classes, find_faulty_images
    from xray_lazy.visualization.data_report.ground_truth_images import ground_truth_images
    from xray_lazy.visualization.data_report.shown_image import SheetLayout, save_shown_images
    from xray_lazy.visualization.image_choice import check_classes, draw_at_random

    sets = open_wanted_sets(request.sets, request.root, request.scanners, request.splits)
    _leave_alone(_files(sets), folder)
    if request.faulty or request.fault_kinds:
        class_names = declared_classes(sets)
        check_classes(request.choice, class_names)
        found = find_faulty_images(sets, class_names, request.fault_kinds, show_progress=True)
        images = draw_at_random(choose_faulty(found, class_names, request.choice), request.count, request.seed)
    else:
        datasets = load_side_by_side(sets)
        class_names = datasets[0].class_names
        check_classes(request.choice, class_names)
        images = ground_truth_images(datasets, request.choice, request.count, request.seed)
    if not images:
        raise UserError("no image is as asked for", "leave some of --ids, --names, --class, --size, --faulty away")
    layout = SheetLayout(columns=min(request.columns, len(images)))
    for path in save_shown_images(images, class_names, folder, layout, request.grey):
        if path.parent == Path(folder):
            report(f"{path}")
    report(f"{counted(len(images), 'image')}, each by itself: {Path(folder) / 'pictures'}")


def show_augmented(request: DataRequest, folder: str | Path, report: Callable[[str], None]) -> None:
    """Write `augmented.jpg` into `folder`: images as training with the config would see them.

    With `each_part` there is a sheet for each part of the mapper's `mixing` and `augmentations` alone besides.

    Raises:
        UserError: there is no config, or no image is as asked for.
    """
    if not request.config_file:
        raise UserError("--augmented needs to know how training augments", "give its config with --config-file")
    from detectron2.config import instantiate

    from xray_lazy.config import load_config
    from xray_lazy.data.mapper import give_dataset
    from xray_lazy.data.wanted_sets import load_side_by_side, open_wanted_sets
    from xray_lazy.visualization.data_report.ground_truth_images import save_augmented_sheet
    from xray_lazy.visualization.image_choice import check_classes, choose_records, draw_at_random

    cfg = load_config(request.config_file, request.overrides)
    loader = cfg.dataloader.train
    if request.sets:
        sets = open_wanted_sets(request.sets, request.root, request.scanners, request.splits)
        datasets = load_side_by_side(sets)
    else:
        datasets = [instantiate(loader.dataset)]
    class_names = datasets[0].class_names
    _leave_alone((Path(file) for one in datasets for file in (*one.json_files, *(r["file_name"] for r in one))), folder)
    check_classes(request.choice, class_names)
    records = [record for dataset in datasets for record in choose_records(dataset, request.choice)]
    records = draw_at_random(records, request.count, request.seed)
    if not records:
        raise UserError("no image is as asked for", "leave some of --ids, --names, --class, --size away")
    sheets = {"augmented": cfg}
    if request.each_part:
        sheets |= _parts_alone(cfg)
    for name, alone in sheets.items():
        path = Path(folder) / f"{name}.jpg"
        mapper = _mapper(alone)
        give_dataset(mapper, datasets[0])
        save_augmented_sheet(records, mapper, class_names, path, request.draws, request.seed)
        report(f"{path}: {counted(len(records), 'image')}, {counted(request.draws, 'draw')} of each")


def _mapper(cfg: DictConfig) -> Callable[[dict], dict]:
    from detectron2.config import instantiate

    try:
        return instantiate(cfg.dataloader.train.mapper)
    except UserError:
        raise
    except Exception as error:  # what detectron2's transforms say of their arguments
        message = f"dataloader.train.mapper can't be built: {type(error).__name__}: {error}"
        raise UserError(message, "`tools/lazy_train.py --dry-run` names the part") from error


def _parts_alone(cfg: DictConfig) -> dict[str, DictConfig]:
    """The config with each part of the training mapper alone, by a name for its sheet."""
    mapper = cfg.dataloader.train.mapper
    kinds = [key for key in ("mixing", "augmentations") if key in mapper]
    alone = {}
    for key in kinds:
        for part in mapper[key] or ():
            one = deepcopy(cfg)
            one.dataloader.train.mapper.update({kind: [part] if kind == key else [] for kind in kinds})
            target = part.get("_target_") if isinstance(part, DictConfig) else type(part)
            kind = getattr(target, "__name__", None) or str(target).rpartition(".")[2]
            alone[f"part_{len(alone) + 1}_{kind}"] = one
    return alone


def show_statistics(request: DataRequest, folder: str | Path, report: Callable[[str], None]) -> None:
    """Write `statistics.png`, its charts, `statistics.json` and `classes.csv` into `folder`."""
    from xray_lazy.data.wanted_sets import load_side_by_side, open_wanted_sets
    from xray_lazy.visualization.data_report.data_statistics import save_statistics, statistics_of
    from xray_lazy.visualization.data_report.statistics_charts import save_charts

    sets = open_wanted_sets(request.sets, request.root, request.scanners, request.splits)
    _leave_alone(_files(sets), folder)
    statistics = [statistics_of(dataset) for dataset in load_side_by_side(sets)]
    for path in (*save_charts(statistics, folder), *save_statistics(statistics, folder)):
        report(str(path))


def _leave_alone(inputs: Iterable[Path], folder: str | Path) -> None:
    """Refuse to write over what is looked at, and over images and numbers that are not of an earlier call."""
    from xray_lazy.visualization.prediction_images import is_written_here

    targets = [path for pattern in RESULTS for path in Path(folder).glob(pattern)]
    if targets:
        check_no_input(targets, inputs)
    for path in targets:
        if path.suffix == ".jpg":
            check_result_file(path, is_written_here, "an image that was drawn here")
        elif path.suffix == ".json":
            check_json_file(path, "statistics of data sets", "name", "items")


def _files(sets: Iterable[CocoSet]) -> Iterator[Path]:
    for one in sets:
        if one.json_file:
            yield one.json_file
        for image in one.content["images"] if one.images_dir else ():
            if isinstance(image, dict) and isinstance(name := image.get("file_name"), str):
                yield one.images_dir / name


def show_browser(request: DataRequest, port: int) -> None:
    """Open hotcoco's browser on the wanted images, until Ctrl-C."""
    from xray_lazy.data.wanted_sets import load_side_by_side, open_wanted_sets
    from xray_lazy.visualization.data_report.data_browser import browse, check_browser
    from xray_lazy.visualization.image_choice import check_classes, choose_records

    check_browser()
    sets = open_wanted_sets(request.sets, request.root, request.scanners, request.splits)
    datasets = load_side_by_side(sets)
    check_classes(request.choice, datasets[0].class_names)
    parts = [dataset.part(choose_records(dataset, request.choice), dataset.name) for dataset in datasets]
    if not any(parts):
        raise UserError("no image is as asked for", "leave some of --ids, --names, --class, --size away")
    browse(parts, port)
