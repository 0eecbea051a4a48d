"""Whether a scanner's bags reach a network as large as those that it learned from: pixels differ in size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import DictConfig, ListConfig, OmegaConf

from xray_lazy.analysis.analysis_console import escape, table_of, wide_console
from xray_lazy.data.augmentation.transmission import silhouette
from xray_lazy.data.image_files.image_file import UnreadableImage, read_image
from xray_lazy.data.image_transforms import ImageInput
from xray_lazy.engine.trained_model import load_model_config
from xray_lazy.errors import UserError
from xray_lazy.prediction.input_files import find_inputs
from xray_lazy.utils.wording import counted

MAPPER = "dataloader.test.mapper.augmentations"
# Times as large or as small: configs test a little larger than they train, and bags of one scanner differ by a tenth
ALIKE = 1.2
MOST_OF_AN_IMAGE = 0.9  # that a bag covers
LEAST_SHARE = 0.2  # of the images that show a bag


@dataclass(frozen=True)
class BagSizes:
    """How large bags are in some images: the square root of the largest one's area, median of the images.

    Attributes:
        images: that show a bag.
        stored: pixels of the file.
        seen: pixels that the network gets, in training or in tests.
    """

    images: int
    stored: float
    seen: float


@dataclass(frozen=True)
class Scales:
    """Bags of the training set and of other images.

    Attributes:
        overrides: of the config's resize before tests, after which the network sees both alike; None where it doesn't
            resize by `short_edge_length`.
    """

    trained: BagSizes
    given: BagSizes
    overrides: list[str] | None

    @property
    def factor(self) -> float:
        """How many times as large the other images have to be."""
        return self.trained.seen / self.given.seen

    @property
    def are_alike(self) -> bool:
        return 1 / ALIKE < self.factor < ALIKE


def compare_scales(
    source: str | Path,
    inputs: Sequence[str],
    most: int = 200,
    image_root: str | Path | None = None,
    report: Callable[[str], None] = print,
) -> Scales:
    """Measure the bags of a config's training set, as training shows them, and those of other images, as tests do.

    Args:
        source: the output folder of a training, or a config file.
        inputs: images, folders, patterns, COCO files and names of sets; no annotation is looked at.
        most: images of either that are looked at, evenly spread.
        image_root: folder of the images of COCO files among the inputs.
        report: gets lines on what can't be read.

    Raises:
        UserError: there is no such run or set, no images, or few that show a bag.
    """
    cfg = load_model_config(Path(source))
    train = OmegaConf.select(cfg, "dataloader.train")
    if OmegaConf.select(cfg, "dataloader.train.dataset") is None:
        raise UserError("the config has no dataloader.train.dataset, whose bags others are compared with", "add it")
    found = find_inputs(inputs, image_root)
    for problem in found.unreadable:
        report(f"skipped: {problem.message}")
    dataset = instantiate(train.dataset)
    others = [{"file_name": str(file.path), "annotations": []} for file in found.images]
    state = np.random.get_state()
    np.random.seed(0)  # for the sizes that training draws
    try:
        trained = _measure(dataset, OmegaConf.select(train, "mapper.augmentations"), most, dataset.name, report)
        given = _measure(others, OmegaConf.select(cfg, MAPPER), most, " ".join(inputs), report)
    finally:
        np.random.set_state(state)
    return Scales(trained, given, _resized_by(cfg, trained.seen / given.seen))


def bag_size(image: np.ndarray) -> float | None:
    """The square root of the area of the largest bag of an image (H, W, 3) uint8, in its pixels.

    None without a bag, and where all of the image would be one: of another background the bag can't be told.
    """
    bags = silhouette(image)
    areas = cv2.connectedComponentsWithStats(bags)[2][1:, cv2.CC_STAT_AREA]
    share = int(areas.max()) / bags.size if len(areas) else 0.0
    return float(np.sqrt(share * image.shape[0] * image.shape[1])) if 0 < share < MOST_OF_AN_IMAGE else None


def print_scales(scales: Scales, name: str) -> None:
    """A table of both, and what to do for these other images."""
    console = wide_console()
    table = table_of("", "images with bags", "a bag's side in the file", "as the network gets it")
    for label, sizes in (("training set", scales.trained), (name, scales.given)):
        table.add_row(escape(label), f"{sizes.images:,}", f"{sizes.stored:.0f}", f"{sizes.seen:.0f} pixels")
    console.print(table)
    if scales.are_alike:
        console.print("both are about as large: nothing is to be changed")
        return
    cost = f"an image then has {scales.factor**2:.1f} times as many pixels"
    if scales.overrides is None:
        console.print(
            f"resize {escape(name)} {scales.factor:.2f} times as large ({cost}): the config's test mapper has no"
            " short_edge_length to change",
            soft_wrap=True,
        )
        return
    console.print(
        f"predict, evaluate and export for {escape(name)} with these, and bags are as large ({cost}):", soft_wrap=True
    )
    console.print(f"  {' '.join(scales.overrides)}", soft_wrap=True)


def _resized_by(cfg: DictConfig, factor: float) -> list[str] | None:
    for place, augmentation in enumerate(OmegaConf.select(cfg, MAPPER) or ()):
        if "short_edge_length" in augmentation:
            sizes = {key: augmentation[key] for key in ("short_edge_length", "max_size") if augmentation.get(key)}
            return [f"{MAPPER}.{place}.{key}={_scaled(size, factor)}" for key, size in sizes.items()]
    return None


def _measure(
    records: Sequence[dict], augmentations: ListConfig | None, most: int, name: str, report: Callable[[str], None]
) -> BagSizes:
    resize = T.AugmentationList(instantiate(augmentations or []))
    stored, seen, problems = [], [], []
    looked_at = [records[int(place)] for place in np.linspace(0, len(records) - 1, min(most, len(records)))]
    for record in looked_at:
        try:
            image = read_image(record["file_name"])
        except UnreadableImage as error:
            problems.append(error.message)
            continue
        if size := bag_size(image):
            items = [annotation for annotation in record["annotations"] if not annotation["iscrowd"]]
            transforms = resize(ImageInput(image, items, record["file_name"]))
            start, right, down = transforms.apply_coords(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
            stored.append(size)
            seen.append(size * abs(np.linalg.det([right - start, down - start])) ** 0.5)
    if not looked_at:
        raise UserError(f"{name} has no images", "give images; bags of videos are not measured")
    if len(problems) == len(looked_at):
        raise UserError(
            f"no image of {name} can be read: {problems[0]}", "--image-root names the folder of a COCO file's images"
        )
    if problems:
        report(f"skipped: {counted(len(problems), 'image')} of {name}, the first one: {problems[0]}")
    if len(stored) < LEAST_SHARE * len(looked_at):
        raise UserError(
            f"only {len(stored)} of {counted(len(looked_at), 'image')} of {name} show a bag",
            "give scans with a bright background and bags on it",
        )
    return BagSizes(len(stored), float(np.median(stored)), float(np.median(seen)))


def _scaled(size: int | Sequence[int], factor: float) -> int | list[int]:
    return max(1, round(size * factor)) if isinstance(size, int) else [max(1, round(one * factor)) for one in size]
