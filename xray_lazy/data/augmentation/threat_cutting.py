"""Threat libraries from what people have: annotated bags, or scans of single items in a folder for each class."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from xray_lazy.data.augmentation.cutting import Unusable, cut_single
from xray_lazy.data.augmentation.item_cutting import cut_items
from xray_lazy.data.augmentation.threat_library import LibraryWriter, Threat
from xray_lazy.data.augmentation.transmission import silhouette, silhouette_step
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_files.image_file import IMAGE_SUFFIXES, UnreadableImage, read_image
from xray_lazy.data.image_reader import read_record
from xray_lazy.errors import UserError
from xray_lazy.utils.terminal import tracked
from xray_lazy.utils.wording import counted


def cut_dataset(
    dataset: DetectionDataset,
    folder: Path,
    scanner: str | None = None,
    most_overlap: float = 0.2,
    pixel_size: float | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
) -> tuple[dict[str, int], Counter]:
    """Make a library of the items of an annotated set.

    Args:
        dataset: only training's belongs in the library of a training.
        folder: of the library.
        scanner: of the set's images.
        most_overlap: share of an item's mask that others' masks may cover; boxes stand in for masks that are missing.
        pixel_size: millimetres of a pixel.
        overwrite: an earlier library.
        show_progress: draw a progress bar on stderr.

    Returns:
        Items of each class, and how many were left out for which reason.

    Raises:
        UserError: no item is fit for it; the folder is another's; an image can't be read.
    """
    left_out: Counter = Counter()
    with LibraryWriter(folder, dataset.class_names, overwrite) as writer:
        for record in tracked(dataset, len(dataset), "cutting", show_progress):
            try:
                image = read_record(record)
            except UnreadableImage as error:
                raise UserError(
                    f"an image can't be read: {error.path} {error.why}", "find all with `tools/dataset.py check`"
                ) from None
            step = silhouette_step(image.shape)
            _, labels, bags, _ = cv2.connectedComponentsWithStats(silhouette(image))
            for annotation, box, cut in cut_items(image, record["annotations"], most_overlap):
                if isinstance(cut, Unusable):
                    left_out[str(cut)] += 1
                    continue
                class_name = dataset.class_names[annotation["category_id"]]
                source = os.path.basename(record["file_name"])
                place = _place_in_bag(labels, bags, box, step)
                facts = {"scanner": scanner, "source": source, "place": place, "pixel_size": pixel_size}
                writer.add(Threat(cut.transmission, cut.bits, class_name, **facts))
        _publish(writer, dataset.name, left_out)
    return writer.counts(), left_out


def cut_scans(
    scans: Path,
    folder: Path,
    scanner: str | None = None,
    pixel_size: float | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
) -> tuple[dict[str, int], Counter]:
    """Make a library of scans that show one item each; the name of a scan's folder is its class.

    Arguments, results and errors as of `cut_dataset`.
    """
    if not scans.is_dir():
        raise UserError(f"there is no folder {scans}", "give one with a subfolder of scans for each class")
    classes = {path.name: list(_images(path)) for path in sorted(scans.iterdir()) if path.is_dir()}
    classes = {name: files for name, files in classes.items() if files}
    if not classes:
        raise UserError(
            f"{scans} has no images in subfolders", "make a subfolder for each class, e.g. knife/, with its scans"
        )
    left_out: Counter = Counter()
    files = [(name, file) for name in classes for file in classes[name]]
    with LibraryWriter(folder, list(classes), overwrite) as writer:
        for name, file in tracked(files, len(files), "cutting", show_progress):
            try:
                cut = cut_single(read_image(file))
            except Unusable as error:
                left_out[str(error)] += 1
                continue
            facts = {"scanner": scanner, "source": file.name, "pixel_size": pixel_size}
            writer.add(Threat(cut.transmission, cut.bits, name, **facts))
        _publish(writer, str(scans), left_out)
    return writer.counts(), left_out


def _publish(writer: LibraryWriter, source: str, left_out: Counter) -> None:
    if not writer.images:
        reasons = "; ".join(f"{counted(number, 'item')} {why}" for why, number in left_out.most_common())
        raise UserError(
            f"no item of {source} can be put into a library" + (f": {reasons}" if reasons else ""),
            "give a set with items that are apart from each other, better with masks, or scans of single items",
        )
    writer.publish()


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)


def _place_in_bag(
    labels: np.ndarray, facts: np.ndarray, box: tuple[int, int, int, int], step: int
) -> tuple[float, float] | None:
    """Where the middle of a box is in the box of its bag, x and y from 0 to 1.

    Args:
        labels, facts: of the silhouette's components, as OpenCV tells them.
    """
    x, y = (box[0] + box[2]) / 2 / step, (box[1] + box[3]) / 2 / step
    bag = labels[min(int(y), labels.shape[0] - 1), min(int(x), labels.shape[1] - 1)]
    if not bag:
        return None
    left, top, width, height = facts[bag, : cv2.CC_STAT_AREA]
    return float((x - left) / width), float((y - top) / height)
