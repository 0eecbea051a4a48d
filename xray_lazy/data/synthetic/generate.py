"""Write synthetic sets in parallel: images first, the COCO file last, so that a set is whole or not there."""

import os
import signal
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from xray_lazy.atomic_file import write_json
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.dataset_places import IMAGE_FOLDERS
from xray_lazy.data.synthetic import CLASS_NAMES
from xray_lazy.data.synthetic.beam_detector import detector_counts, measure, scan
from xray_lazy.data.synthetic.drawn_annotations import MASK_FORMS, make_annotation
from xray_lazy.data.synthetic.planted_faults import PlantedFault, plant_faults
from xray_lazy.data.synthetic.profiles import PROFILES
from xray_lazy.data.synthetic.scene import compose
from xray_lazy.errors import UserError

IMAGE_FORMATS = ("jpg", "png")
# Tells the files that may be overwritten from the user's own.
DESCRIPTION = "synthetic X-ray scans of baggage, made by xray-lazy"


def name_of_scanner(scanner: str, raw: bool) -> str:
    """As folders and names of sets have it."""
    return f"{scanner}_raw" if raw else scanner


@dataclass(frozen=True)
class Recipe:
    """What all images of a set have in common.

    Attributes:
        scanner: a key of `PROFILES`.
        classes: out of `CLASS_NAMES`.
        empty_share: share of bags without a labelled item.
        masks: `rle`, exact, or `polygon`, without holes and true to half a pixel.
        image_format: `jpg` or `png`; `quality` is for jpg.
        raw: two 16-bit PNGs of each image in place of colours, what the detectors count at the low and high energy.
    """

    scanner: str
    classes: tuple[str, ...] = CLASS_NAMES
    seed: int = 0
    empty_share: float = 0.1
    masks: str = "rle"
    image_format: str = "jpg"
    quality: int = 92
    raw: bool = False

    @property
    def name(self) -> str:
        return name_of_scanner(self.scanner, self.raw)

    def __post_init__(self):
        for value, known, name in (
            (self.scanner, PROFILES, "scanner"),
            (self.masks, MASK_FORMS, "form of masks"),
            (self.image_format, IMAGE_FORMATS, "image format"),
            *((name, CLASS_NAMES, "synthetic class") for name in self.classes),
        ):
            if value not in known:
                raise UserError(f"there is no {name} {value!r}", f"choose from {', '.join(known)}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise UserError("the classes must be different ones, at least one", f"choose from {', '.join(CLASS_NAMES)}")
        if not 0 <= self.empty_share <= 1:
            raise UserError(f"{self.empty_share} is not a share of empty bags", "give a number from 0 to 1")
        if self.seed < 0:
            raise UserError(f"{self.seed} is not a seed", "give a number from 0 up")


def generate_set(
    root: str | os.PathLike,
    scanner: str,
    counts: Mapping[str, int],
    classes: Sequence[str] = CLASS_NAMES,
    seed: int = 0,
    workers: int | None = None,
    **recipe,
) -> dict[str, Path]:
    """Write `<root>/annotations/<scanner>/<split>.json` and `<root>/images/<scanner>/{train,valid,test}/`,
    of raw scans with `<scanner>_raw` in the scanner's place.

    The same arguments give the same files whatever the number of workers, and an image does not depend on how many
    others there are.

    Args:
        counts: images by split, `train`, `val` and `test`; a split with 0 is left out.
        workers: processes; None for one per available core.
        recipe: further fields of `Recipe`.

    Returns:
        The COCO files by split.

    Raises:
        UserError: an argument is not possible, or a set that is not synthetic would be overwritten.
    """
    common = Recipe(scanner, tuple(classes), seed, **recipe)
    counts = {split: count for split, count in counts.items() if count > 0}
    if not counts or not counts.keys() <= IMAGE_FOLDERS.keys():
        raise UserError("there is nothing to generate", f"ask for images of {', '.join(IMAGE_FOLDERS)}")
    folders = {split: Path(root) / "images" / common.name / IMAGE_FOLDERS[split] for split in counts}
    files = {split: Path(root) / "annotations" / common.name / f"{split}.json" for split in counts}
    _make_room(files.values())
    tasks = {split: _tasks(common, folders[split], split, count) for split, count in counts.items()}
    drawn = iter(_draw_all([task for split in counts for task in tasks[split]], workers))
    for split in counts:
        write_json(files[split], _content(common, tasks[split], list(islice(drawn, counts[split]))))
    return files


def generate_export(
    root: str | os.PathLike,
    scanner: str,
    count: int,
    classes: Sequence[str] = CLASS_NAMES,
    seed: int = 0,
    workers: int | None = None,
    faults: bool = False,
    **recipe,
) -> tuple[Path, list[PlantedFault]]:
    """Write `<root>/<scanner>/annotations.json` and `<root>/<scanner>/images/`, one folder as a scanner exports it.

    Args:
        faults: break it in the ways in which real exports are broken.

    Returns:
        The COCO file, and what was broken on purpose.
    """
    common = Recipe(scanner, tuple(classes), seed, **recipe)
    if count < 1:
        raise UserError("there is nothing to generate", "ask for at least one image")
    folder = Path(root) / common.name
    file = folder / "annotations.json"
    _make_room([file])
    tasks = _tasks(common, folder / "images", "export", count)
    content = _content(common, tasks, _draw_all(tasks, workers))
    planted = plant_faults(content, folder / "images", np.random.default_rng(seed)) if faults else []
    write_json(file, content)
    return file, planted


@dataclass(frozen=True)
class _ImageTask:
    """One image: all of it follows from the recipe and these values."""

    recipe: Recipe
    path: Path
    group: str
    number: int


def _tasks(recipe: Recipe, folder: Path, group: str, count: int) -> list[_ImageTask]:
    """The images of a new folder, from which those of an earlier run are removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} can not be made: {error.strerror}", "choose another --output") from None
    for path in folder.glob(f"synthetic_{group}_*"):
        path.unlink()
    ending = "_low.png" if recipe.raw else f".{recipe.image_format}"
    names = (f"synthetic_{group}_{number:06d}{ending}" for number in range(1, count + 1))
    return [_ImageTask(recipe, folder / name, group, number) for number, name in enumerate(names)]


def _draw(task: _ImageTask) -> list[dict]:
    """Write one image; returns its annotations."""
    recipe, profile = task.recipe, PROFILES[task.recipe.scanner]
    words = (recipe.seed, zlib.crc32(recipe.scanner.encode()), zlib.crc32(task.group.encode()), task.number)
    rng = np.random.default_rng(words)
    # The first item's class goes round in turn, so that small sets have all classes too.
    first = None if rng.random() < recipe.empty_share else recipe.classes[task.number % len(recipe.classes)]
    scene = compose(profile, recipe.classes, rng, first)
    if recipe.raw:
        low, high = detector_counts(measure(scene.attenuation, profile, rng))
        images = {task.path: low, task.path.with_name(task.path.name.replace("_low", "_high")): high}
    else:
        images = {task.path: scan(scene.attenuation, profile, rng)}
    for path, image in images.items():
        options = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality] if path.suffix == ".jpg" else []
        path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())
    return [
        make_annotation(patch, recipe.classes.index(name) + 1, profile.size, recipe.masks)
        for name, patch in scene.items
    ]


def _draw_all(tasks: list[_ImageTask], workers: int | None) -> list[list[dict]]:
    """Write all images with a progress bar; returns their annotations in order."""
    workers = min(workers or _available_cores(), -(-len(tasks) // 8))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with _mapping(workers) as mapped, Progress(*columns, console=Console(stderr=True)) as progress:
        description = f"{tasks[0].recipe.scanner} images"
        return list(progress.track(mapped(_draw, tasks), total=len(tasks), description=description))


@contextmanager
def _mapping(workers: int) -> Iterator:
    """A function like `map` that spreads the work over processes."""
    if workers <= 1:
        yield map
        return
    # Processes are spawned, not forked: a fork copies the locks of OpenCV's and torch's threads as they happen to be.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepare_worker)
    try:
        yield lambda function, values: pool.map(function, values)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)
    # Ctrl-C reaches all processes; the parent alone ends the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} images/s" if speed else "")


def _make_room(files: Iterable[Path]) -> None:
    """Remove the COCO files of an earlier run, so that an interrupted one leaves no old file beside new images."""
    existing = [file for file in files if file.exists()]
    for file in existing:
        info = read_coco(file).get("info")
        if not isinstance(info, dict) or info.get("description") != DESCRIPTION:
            raise UserError(
                f"{file} is not a synthetic set and would be overwritten", "choose another --output or move it away"
            )
    for file in existing:
        file.unlink()


def _content(recipe: Recipe, tasks: list[_ImageTask], drawn: list[list[dict]]) -> dict:
    """The COCO file of some images."""
    width, height = PROFILES[recipe.scanner].size
    images = [
        {"id": number, "file_name": task.path.name, "width": width, "height": height}
        for number, task in enumerate(tasks, 1)
    ]
    placed = [(number, annotation) for number, annotations in enumerate(drawn, 1) for annotation in annotations]
    annotations = [{"id": index, "image_id": number, **rest} for index, (number, rest) in enumerate(placed, 1)]
    return {
        "info": {"description": DESCRIPTION, "scanner": recipe.name, "seed": recipe.seed},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "item"} for number, name in enumerate(recipe.classes, 1)
        ],
    }
