"""What people corrected, as a COCO set to train on: each scan's files beside its annotations, written whole or not."""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.data.check.masks import mask_area, mask_box, rle_fault
from xray_lazy.data.check.values import are_coordinates, is_whole
from xray_lazy.data.coco_file import REQUIRED_LISTS, read_coco
from xray_lazy.data.masks.run_lengths import compressed, encode
from xray_lazy.errors import UserError
from xray_lazy.prediction.detection_files import Categories
from xray_lazy.prediction.serving.received_scans import ReceivedScan
from xray_lazy.utils.atomic_file import remove_unfinished, write_bytes, write_json
from xray_lazy.utils.results_place import check_json_file

FILE_NAME, IMAGES = "annotations.json", "images"
MOST_ITEMS = 1000  # of one scan


@dataclass(frozen=True)
class CorrectedItem:
    """An item as a person left it.

    Attributes:
        class_name: one of the model's.
        box: xywh pixels, within the image.
        mask: an RLE, or polygons; None for a model without masks.
    """

    class_name: str
    box: list[float]
    mask: dict | list | None


class CorrectionSet:
    """`FOLDER/annotations.json` and `FOLDER/images/`, to which corrected scans are added.

    A scan that is saved again replaces what was said of it; its folder is named after its content, so that scans of
    equal names stay apart. What others do to the file or the folder between two scans is kept.

    Args:
        class_names: of the model; classes that the folder's set has beside them are kept.
        with_masks: items without a mask get their box as one.

    What a killed server has left there half-written is removed; two are not to write into one folder.

    Raises:
        UserError: the folder's file is another one, or a set whose images lie elsewhere.
    """

    def __init__(self, folder: str | Path, class_names: Sequence[str], with_masks: bool) -> None:
        self.folder, self.class_names, self.with_masks = Path(folder), tuple(class_names), with_masks
        self._file, self._lock = self.folder / FILE_NAME, threading.Lock()
        remove_unfinished(self.folder)  # of a server that was killed
        check_json_file(self._file, "a set of corrections", "images", "categories")
        self._read: tuple[tuple[int, ...], dict] = (), {}  # when, and what
        self._set()

    def _set(self) -> dict:
        """What is in the file now; with no file, a set of the model's classes."""
        stamp = self._stamp()
        if not self._read[1] or stamp != self._read[0]:
            before = read_coco(self._file) if stamp else {"images": [], "annotations": [], "categories": []}
            if fault := _fault(before, self.folder / IMAGES):
                raise UserError(f"{self._file} is no set of corrections: {fault}", "let corrections go elsewhere")
            ids = _category_ids(before, self.class_names)
            known = {one["name"] for one in before["categories"]}
            added = [{"id": number, "name": name} for name, number in ids.items() if name not in known]
            self._read = stamp, {**before, "categories": [*before["categories"], *added]}
        return self._read[1]

    def _stamp(self) -> tuple[int, ...]:
        """By which another content of the file is known; empty for none."""
        status = self._file.stat() if self._file.is_file() else None
        return (status.st_ino, status.st_mtime_ns, status.st_size) if status and status.st_size else ()

    def add(self, scan: ReceivedScan, items: Sequence[CorrectedItem]) -> tuple[int, int]:
        """Write a scan and its items; returns how many images and annotations there are now.

        Raises:
            UserError: somebody made something else of the file.
            OSError: the disk is full, or can't be written; what was there stays.
        """
        assert scan.size is not None
        contents = {file.relative_to(scan.root): file.read_bytes() for file in scan.files}
        digest = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in contents.values())).hexdigest()[:12]
        name = (PurePosixPath(digest) / scan.name).as_posix()
        with self._lock:
            content = _with(self._set(), self.class_names, name, scan.size, items)
            for file, data in contents.items():
                write_bytes(self.folder / IMAGES / digest / file, data)
            write_json(self._file, content)
            self._read = self._stamp(), content
        return len(content["images"]), len(content["annotations"])


def _fault(content: dict, folder: Path) -> str:
    """Why no scan can be added to a COCO set, or the result not be trained on."""
    for name in REQUIRED_LISTS:
        ids = [one.get("id") if isinstance(one, dict) else None for one in content[name]]
        if not all(map(is_whole, ids)) or len(set(ids)) < len(ids):
            return f"its {name} have no whole numbers of their own as ids"
    names = [one.get("name") for one in content["categories"]]
    if not all(isinstance(one, str) for one in names) or len(set(names)) < len(names):
        return "its categories have no names of their own"
    files = (str(one.get("file_name")) for one in content["images"])
    missing = next((one for one in files if not (folder / one).is_file()), None)
    return "" if missing is None else f"its image {missing} is not in {folder.name}/"


def _category_ids(content: dict, class_names: Sequence[str]) -> dict[str, int]:
    known = {one["name"]: one["id"] for one in content["categories"]}
    return dict(zip(class_names, Categories.of(class_names, -1, known).ids, strict=True))


def _with(
    content: dict, class_names: Sequence[str], name: str, size: tuple[int, int], items: Sequence[CorrectedItem]
) -> dict:
    """The set with this image's items in place of those that it had."""
    images, annotations = content["images"], content["annotations"]
    number = next((one["id"] for one in images if one["file_name"] == name), None)
    if number is None:
        number = max((one["id"] for one in images), default=0) + 1
        images = [*images, {"id": number, "file_name": name, "width": size[0], "height": size[1]}]
    free = max((one["id"] for one in annotations), default=0) + 1
    kept = [one for one in annotations if one.get("image_id") != number]
    ids = _category_ids(content, class_names)
    new = [_annotation(free + place, number, ids[item.class_name], item, size) for place, item in enumerate(items)]
    return {**content, "images": images, "annotations": [*kept, *new]}


def _annotation(number: int, image_id: int, category_id: int, item: CorrectedItem, size: tuple[int, int]) -> dict:
    one = {"id": number, "image_id": image_id, "category_id": category_id, "iscrowd": 0}
    if item.mask is None:
        return {**one, "bbox": item.box, "area": item.box[2] * item.box[3]}
    area = mask_area(item.mask, size)
    return {**one, "bbox": mask_box(item.mask), "area": area, "segmentation": item.mask}


def read_items(text: str, size: tuple[int, int], class_names: Sequence[str], with_masks: bool) -> list[CorrectedItem]:
    """What a client says of an image of `size` (width, height): a JSON list of objects.

    Each has a `class`, a `bbox` (xywh pixels) and, if it has a mask, its `segmentation` (RLE); with `moved`, the box
    was set by hand and the mask is stretched to it.

    Raises:
        UserError: it is something else.
    """
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the annotations are no JSON: {error}", "") from None
    if not isinstance(entries, list) or len(entries) > MOST_ITEMS or not all(isinstance(one, dict) for one in entries):
        raise UserError(f"the annotations are no list of up to {MOST_ITEMS} objects", "")
    return [_item(number, one, size, class_names, with_masks) for number, one in enumerate(entries, start=1)]


def _item(
    number: int, entry: dict, size: tuple[int, int], class_names: Sequence[str], with_masks: bool
) -> CorrectedItem:
    name, given, mask = entry.get("class"), entry.get("bbox"), entry.get("segmentation")
    if name not in class_names:
        raise UserError(f"annotation {number} is of the class {name!r}", f"one of {', '.join(class_names)}")
    if not isinstance(given, list) or len(given) != 4 or not are_coordinates(given):
        raise UserError(f"annotation {number} has no bbox [x, y, width, height] in pixels", "")
    left, top = (min(max(value, 0.0), limit) for value, limit in zip(given[:2], size, strict=True))
    right, bottom = (min(max(given[axis] + given[axis + 2], 0.0), size[axis]) for axis in (0, 1))
    if right - left < 1 or bottom - top < 1:
        raise UserError(f"annotation {number} has a box of less than a pixel in the image", "draw it larger")
    box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
    if not with_masks:
        return CorrectedItem(name, box, None)
    if mask is not None:
        # pycocotools decodes without looking
        fault = rle_fault(mask, size) if isinstance(mask, dict) else ("", "is no RLE")
        if fault and fault[0] != "rle_empty":
            raise UserError(f"annotation {number} has a mask that can't be decoded: {fault[1]}", "")
        mask = None if fault else _stretched(mask, box) if entry.get("moved") else _plain(mask)
    return CorrectedItem(name, box, mask or _rectangle(box))


def _plain(mask: dict) -> dict:
    return {"size": mask["size"], "counts": mask["counts"]}


def _stretched(mask: dict, box: Sequence[float]) -> dict | None:
    """The mask with its own box moved to another one; None if nothing of it is left."""
    x, y, width, height = (int(value) for value in mask_box(mask))
    bitmap = mask_util.decode(compressed(mask))
    left, top = (round(value) for value in box[:2])
    right, bottom = max(round(box[0] + box[2]), left + 1), max(round(box[1] + box[3]), top + 1)
    part = bitmap[y : y + height, x : x + width]
    # of pixels that become one, all count: a thin part at the end still reaches the box
    for axis, size in enumerate((bottom - top, right - left)):
        part = np.maximum.reduceat(part, np.arange(size) * part.shape[axis] // size, axis)
    moved = np.zeros_like(bitmap)
    moved[top:bottom, left:right] = part[: bitmap.shape[0] - top, : bitmap.shape[1] - left]
    return encode(moved) if moved.any() else None


def _rectangle(box: Sequence[float]) -> list[list[float]]:
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
