"""A library of threats on disk: a COCO set in which each image shows one item alone, as what it lets through.

`threats.json` is COCO with more facts of each image (`scanner`, `source`, `place`, `pixel_size`); `images/<class>/` has
a lossless PNG of each item, white where it lets all through. `tools/dataset.py check` and `tools/visualize.py` take it.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import transforms as T

from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.image_files.image_file import UnreadableImage, read_image
from xray_lazy.data.masks.mask_rasters import MaskRasters, MaskWindow
from xray_lazy.data.masks.run_lengths import encode
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json
from xray_lazy.utils.results_place import check_result_folder, replace_folder, sole_maker
from xray_lazy.utils.wording import counted

INDEX, SHEET = "threats.json", "sheet.jpg"
MAKE_ONE = "make one with `tools/dataset.py threats ANNOTATIONS.json --images DIR --output DIR`"


@dataclass(frozen=True)
class Threat:
    """One item.

    Attributes:
        transmission: (h, w, 3) uint8, BGR, 255 where all comes through.
        bits: (h, w) bool, its mask.
        class_name: of the item.
        scanner: that it was scanned by, where known.
        source: the image that it comes from.
        place: of its middle in its bag's box, x and y from 0 to 1; None where it was in none.
        pixel_size: millimetres of a pixel, where known.
    """

    transmission: np.ndarray
    bits: np.ndarray
    class_name: str
    scanner: str | None = None
    source: str | None = None
    place: tuple[float, float] | None = None
    pixel_size: float | None = None


@dataclass
class LibraryWriter:
    """Writes a library beside its place, and brings it there as a whole with `publish`.

    Args:
        folder: of the library.
        class_names: of all items, in the order of the category ids.
        overwrite: an earlier library.

    Raises:
        UserError: there is something in the folder, and it is no library or `overwrite` is off.
    """

    folder: Path
    class_names: Sequence[str]
    overwrite: bool = False
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.folder = self.folder.absolute()
        require_free(self.folder, self.overwrite)
        self._held = ExitStack()

    def add(self, threat: Threat) -> None:
        number = len(self.images) + 1
        name = f"images/{_as_folder(threat.class_name)}/{number:06d}.png"
        path = self._unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _, png = cv2.imencode(".png", threat.transmission)
        path.write_bytes(png.tobytes())
        height, width = threat.bits.shape
        facts = {"scanner": threat.scanner, "source": threat.source}
        facts |= {"place": threat.place and [round(x, 3) for x in threat.place], "pixel_size": threat.pixel_size}
        self.images.append({"id": number, "file_name": name, "width": width, "height": height, **facts})
        left, top, right, bottom = (int(value) for value in MaskWindow(0, 0, threat.bits).box())
        self.annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": self.class_names.index(threat.class_name) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": int(threat.bits.sum()),
                "iscrowd": 0,
                "segmentation": encode(threat.bits),
            }
        )

    def counts(self) -> dict[str, int]:
        """Items of each class."""
        counts = Counter(annotation["category_id"] for annotation in self.annotations)
        return {name: counts[number] for number, name in enumerate(self.class_names, start=1)}

    def publish(self) -> None:
        """Bring the library to its folder; an earlier one goes."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self.class_names, start=1)]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        write_json(self._unfinished / INDEX, content)
        require_free(self.folder, self.overwrite)  # somebody may have been faster
        replace_folder(self.folder, self._unfinished)

    def __enter__(self) -> "LibraryWriter":
        self._unfinished = self._held.enter_context(sole_maker(self.folder)) / "new"
        self._unfinished.mkdir()
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()


def require_free(folder: Path, overwrite: bool) -> None:
    """See to it that a library can be written to a folder.

    Raises:
        UserError: as `LibraryWriter`.
    """
    check_result_folder(folder)
    present = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    if not present:
        return
    if INDEX not in present:
        raise UserError(
            f"{folder} has {present[0]} in it and is no threat library", "name a new folder for the library"
        )
    if not overwrite:
        raise UserError(f"there is a threat library in {folder} already", "take another --output, or --overwrite")
    if strange := [name for name in present if name not in (INDEX, SHEET, "images")]:
        raise UserError(
            f"{folder} has {strange[0]} in it, which is no part of the library that would be replaced",
            "move it away, or take another --output",
        )


def read_library(folder: str | os.PathLike) -> tuple[Threat, ...]:
    """All items of a library; in a process, each state of a library is read once.

    Raises:
        UserError: there is none, it has no items, or one of its files can't be used.
    """
    index = Path(folder) / INDEX
    if not index.is_file():
        where = f"there is no folder {folder}" if not Path(folder).is_dir() else f"{folder} has no {INDEX}"
        raise UserError(f"no threat library: {where}", MAKE_ONE)
    facts = index.stat()
    return _read(Path(folder).resolve(), (facts.st_mtime_ns, facts.st_size, facts.st_ino))


@functools.lru_cache(maxsize=4)
def _read(folder: Path, state: tuple) -> tuple[Threat, ...]:
    content = read_coco(folder / INDEX)
    try:
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        entries = [(images[a["image_id"]], names[a["category_id"]], a["segmentation"]) for a in content["annotations"]]
        threats = tuple(_read_threat(folder, *entry) for entry in entries)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{folder / INDEX} is no index of a threat library ({type(error).__name__}: {error})", MAKE_ONE
        ) from error
    if not threats:
        raise UserError(f"the threat library {folder} has no items", MAKE_ONE)
    return threats


def _read_threat(folder: Path, image: dict, class_name: str, segmentation: dict | list) -> Threat:
    path = folder / image["file_name"]
    try:
        transmission = read_image(path)
    except UnreadableImage as error:
        raise UserError(
            f"an item of the threat library can't be read: {error.path} {error.why}",
            f"copy it again, or {MAKE_ONE}",
        ) from None
    size = transmission.shape[:2]
    if isinstance(segmentation, dict) and size != tuple(segmentation["size"]):
        raise UserError(
            f"{path} is {transmission.shape[1]}x{transmission.shape[0]}, its mask in {INDEX} "
            f"{segmentation['size'][1]}x{segmentation['size'][0]}",
            f"copy it again, or {MAKE_ONE}",
        )
    left, top, drawn = MaskRasters(T.TransformList([]), size, size).draw(segmentation)
    bits = np.zeros(size, bool)
    bits[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    if not bits.any():
        raise ValueError(f"the mask of {image['file_name']} is empty")
    place = image.get("place")
    return Threat(
        transmission,
        bits,
        class_name,
        image.get("scanner"),
        image.get("source"),
        (float(place[0]), float(place[1])) if place else None,
        image.get("pixel_size"),
    )


def summary(counts: dict[str, int], left_out: Iterable[tuple[str, int]]) -> list[str]:
    """Lines that tell what came into a library and what did not."""
    lines = [f"{counted(sum(counts.values()), 'item')}: " + ", ".join(f"{n} {name}" for name, n in counts.items())]
    return lines + [f"left out: {counted(number, 'item')} {why}" for why, number in left_out]


def _as_folder(class_name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", class_name).strip(".") or "_"
