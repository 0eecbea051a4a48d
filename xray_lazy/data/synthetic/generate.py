"""Write synthetic sets in parallel, beside their place: an earlier one is there until the new one is complete."""

import json
import os
import shutil
import signal
import zlib
from collections.abc import Iterator, Mapping, Sequence
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

from xray_lazy.data.bag_names import BAG, VIEW
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.dataset_places import IMAGE_FOLDERS
from xray_lazy.data.synthetic import CLASS_NAMES
from xray_lazy.data.synthetic.beam_detector import detector_counts, measure, scan
from xray_lazy.data.synthetic.drawn_annotations import MASK_FORMS, make_annotation
from xray_lazy.data.synthetic.planted_faults import PlantedFault, plant_faults
from xray_lazy.data.synthetic.profiles import PROFILES
from xray_lazy.data.synthetic.scene import Scene, compose
from xray_lazy.data.synthetic.two_views import VIEWS, compose_views
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.interruption import end_with_parent
from xray_lazy.utils.results_place import check_result_folder, sole_maker

IMAGE_FORMATS = ("jpg", "png")
# With the names of the images, tells the files that may be overwritten from the user's own.
DESCRIPTION = "synthetic X-ray scans of baggage, made by xray-lazy"
CHECKSUM = "checksum"  # in `info`, of all else as it was generated: what a person corrected since differs


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
        views: 1, or 2 for images of each bag from above and from the side.
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
    views: int = 1

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
        if self.views not in (1, len(VIEWS)):
            raise UserError(f"{self.views} views of a bag can't be generated", "give 1 or 2")
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
        counts: bags by split, `train`, `val` and `test`; a split with 0 is left out.
        workers: processes; None for one per available core.
        recipe: further fields of `Recipe`.

    Returns:
        The COCO files by split.

    Raises:
        UserError: an argument is not possible, or a set that is not synthetic, or was changed, would be overwritten.
    """
    common = Recipe(scanner, tuple(classes), seed, **recipe)
    counts = {split: count for split, count in counts.items() if count > 0}
    if not counts or not counts.keys() <= IMAGE_FOLDERS.keys():
        raise UserError("there is nothing to generate", f"ask for images of {', '.join(IMAGE_FOLDERS)}")
    parts = [
        _Part(
            split,
            Path(root) / "images" / common.name / IMAGE_FOLDERS[split],
            Path(root) / "annotations" / common.name / f"{split}.json",
            counts[split],
        )
        for split in counts
    ]
    _write(common, parts, workers)
    return {part.group: part.file for part in parts}


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
    part = _Part("export", folder / "images", folder / "annotations.json", count)
    return part.file, _write(common, [part], workers, faults)


@dataclass(frozen=True)
class _Part:
    """A COCO file and the folder of its images, whose names have the group."""

    group: str
    images: Path
    file: Path
    count: int


def _write(recipe: Recipe, parts: Sequence[_Part], workers: int | None, faults: bool = False) -> list[PlantedFault]:
    """Make all parts, then put them in the place of earlier ones; returns what was broken on purpose."""
    for part in parts:
        _require_synthetic(part)
        for folder in (part.images, part.file.parent):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"the folder {folder} can not be made: {error.strerror}", "choose another --output"
                ) from None
            check_result_folder(folder)
    with sole_maker(parts[0].images) as work:
        tasks = {part.group: _tasks(recipe, work / part.group, part.group, part.count) for part in parts}
        drawn = iter(_draw_all([task for group in tasks.values() for task in group], workers))
        planted = []
        for part in parts:
            content = _content(recipe, tasks[part.group], list(islice(drawn, part.count)))
            if faults:
                planted += plant_faults(content, work / part.group, np.random.default_rng(recipe.seed))
            content["info"][CHECKSUM] = _checksum(content)
            write_json(work / f"{part.group}.json", content)
        for part in parts:  # drawing takes minutes, in which a person may have corrected the earlier one
            _require_synthetic(part)
        _publish(parts, work)
    return planted


def _publish(parts: Sequence[_Part], work: Path) -> None:
    """Move everything to its place; the COCO files go first and come last, so that none is beside others' images."""
    for part in parts:
        part.file.unlink(missing_ok=True)
    for part in parts:
        for old in part.images.glob(f"synthetic_{part.group}_*"):
            old.unlink()
        for image in (work / part.group).iterdir():
            shutil.move(image, part.images / image.name)
    for part in parts:
        shutil.move(work / f"{part.group}.json", part.file)


@dataclass(frozen=True)
class _BagTask:
    """One bag: all of it follows from the recipe and these values.

    Attributes:
        paths: of its views.
    """

    recipe: Recipe
    paths: list[Path]
    group: str
    number: int


def _tasks(recipe: Recipe, folder: Path, group: str, count: int) -> list[_BagTask]:
    """The bags of a new folder."""
    folder.mkdir()
    ending = "_low.png" if recipe.raw else f".{recipe.image_format}"
    views = [f"_{view}" for view in VIEWS] if recipe.views > 1 else [""]
    return [
        _BagTask(
            recipe, [folder / f"synthetic_{group}_{number + 1:06d}{view}{ending}" for view in views], group, number
        )
        for number in range(count)
    ]


def _draw(task: _BagTask) -> list[list[dict]]:
    """Write the images of one bag; returns the annotations of each."""
    recipe, profile = task.recipe, PROFILES[task.recipe.scanner]
    words = (recipe.seed, zlib.crc32(recipe.scanner.encode()), zlib.crc32(task.group.encode()), task.number)
    rng = np.random.default_rng(words)
    # The first item's class goes round in turn, so that small sets have all classes too.
    first = None if rng.random() < recipe.empty_share else recipe.classes[task.number % len(recipe.classes)]
    if recipe.views > 1:
        scenes = compose_views(profile, recipe.classes, rng, first)
    else:
        scenes = [compose(profile, recipe.classes, rng, first)]
    return [_write_view(recipe, path, scene, rng) for path, scene in zip(task.paths, scenes, strict=True)]


def _write_view(recipe: Recipe, file: Path, scene: Scene, rng: np.random.Generator) -> list[dict]:
    """Write the image of a scene; returns its annotations."""
    profile = PROFILES[recipe.scanner]
    if recipe.raw:
        low, high = detector_counts(measure(scene.attenuation, profile, rng))
        images = {file: low, file.with_name(file.name.replace("_low", "_high")): high}
    else:
        images = {file: scan(scene.attenuation, profile, rng)}
    for path, image in images.items():
        options = [cv2.IMWRITE_JPEG_QUALITY, recipe.quality] if path.suffix == ".jpg" else []
        path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())
    return [
        make_annotation(patch, recipe.classes.index(name) + 1, profile.size, recipe.masks)
        for name, patch in scene.items
    ]


def _draw_all(tasks: list[_BagTask], workers: int | None) -> list[list[list[dict]]]:
    """Write all images with a progress bar; returns the annotations of each bag's in order."""
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
    end_with_parent()
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


def _require_synthetic(part: _Part) -> None:
    """Refuse to replace a set that is none of ours, or was made of one: split, corrected, or with images of its own."""
    if not part.file.exists():
        return
    content = read_coco(part.file)
    info, images = content.get("info"), content["images"]
    info = info if isinstance(info, dict) else {}
    ours = info.get("description") == DESCRIPTION
    names = [str(image.get("file_name")) if isinstance(image, dict) else "" for image in images]
    if not ours or not all(name.startswith(f"synthetic_{part.group}_") for name in names):
        raise UserError(
            f"{part.file} is not a synthetic set and would be overwritten", "choose another --output or move it away"
        )
    checksum = _checksum(content)
    if info.get(CHECKSUM, checksum) != checksum:
        raise UserError(
            f"{part.file} was changed since it was generated, and would be overwritten",
            "choose another --output or move it away",
        )


def _checksum(content: Mapping) -> int:
    """Of a COCO file, but for its `info`."""
    rest = {name: value for name, value in content.items() if name != "info"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _content(recipe: Recipe, tasks: list[_BagTask], drawn: list[list[list[dict]]]) -> dict:
    """The COCO file of some bags."""
    width, height = PROFILES[recipe.scanner].size
    named = [(path, fields) for task in tasks for path, fields in zip(task.paths, _fields(task), strict=True)]
    images = [
        {"id": number, "file_name": path.name, "width": width, "height": height, **fields}
        for number, (path, fields) in enumerate(named, 1)
    ]
    views = (annotations for bag in drawn for annotations in bag)
    placed = [(number, annotation) for number, annotations in enumerate(views, 1) for annotation in annotations]
    annotations = [{"id": index, "image_id": number, **rest} for index, (number, rest) in enumerate(placed, 1)]
    return {
        "info": {"description": DESCRIPTION, "scanner": recipe.name, "seed": recipe.seed},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "item"} for number, name in enumerate(recipe.classes, 1)
        ],
    }


def _fields(task: _BagTask) -> list[dict[str, str]]:
    """Which bag and view each of the images is; nothing where there is one view."""
    if len(task.paths) == 1:
        return [{}]
    return [{BAG: f"{task.group}_{task.number + 1:06d}", VIEW: view} for view in VIEWS]
