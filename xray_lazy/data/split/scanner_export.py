"""One scanner's export, read and found fit to be split: each image once, on disk, and no annotation without one."""

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xray_lazy.data.check.values import class_name, is_id
from xray_lazy.data.coco_file import read_coco
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted, tool_command

_FIRST = 5
_IS_SOUND = {"file_name": lambda name: isinstance(name, str), "name": class_name}


@dataclass(frozen=True)
class Export:
    """A COCO set that is to be split.

    Attributes:
        scanner: part of the data sets' names, `xray_<scanner>_<split>`.
        json_file: where the content came from.
        image_folder: what each `file_name` is relative to.
        content: the JSON's content.
    """

    scanner: str
    json_file: Path
    image_folder: Path
    content: dict


def read_export(scanner: str, json_file: str | os.PathLike, image_folder: str | os.PathLike) -> Export:
    """Read one scanner's export.

    Raises:
        UserError: the name can't be part of a data set's name, the JSON is not COCO or has entries that a split would
            lose or have twice, or images are missing.
    """
    if not re.fullmatch(r"\w[\w-]*", scanner):
        raise UserError(
            f"{scanner!r} can't be the name of a scanner", "use letters, digits, _ and -, e.g. --scanner astrophysics"
        )
    export = Export(scanner, Path(json_file), Path(image_folder), read_coco(json_file))
    if not export.image_folder.is_dir():
        raise UserError(f"there is no image folder {image_folder}", f"give the folder of the images of {json_file}")
    _require_sound_entries(export)
    _require_images(export)
    return export


def _require_sound_entries(export: Export) -> None:
    images, annotations = export.content["images"], export.content["annotations"]
    if not images:
        raise UserError(f"{export.json_file} can't be split: it has no images", "export it again")
    faults = [
        *_malformed(images, "images", "id", "file_name"),
        *_malformed(export.content["categories"], "categories", "id", "name"),
    ]
    faults += _malformed(annotations, "annotations", "image_id", "category_id")
    if not faults:
        image_ids = {image["id"] for image in images}
        classes = {category["id"] for category in export.content["categories"]}
        lost = [a.get("id") for a in annotations if a["image_id"] not in image_ids]
        nameless = [a.get("id") for a in annotations if a["category_id"] not in classes]
        faults += _listed(_repeated(image["id"] for image in images), "image id", "given more than once")
        faults += _listed(_repeated(map(_normal_name, images)), "file name", "given more than once")
        faults += _listed(lost, "annotation", "of no image")
        faults += _listed(nameless, "annotation", "of a class that is not declared")
    if faults:
        command = tool_command("dataset", "check", export.json_file, export.image_folder)
        raise UserError(
            f"{export.json_file} can't be split: {'; '.join(faults)}",
            f"{command} tells what `repair` can do, and what you have to",
        )
    if unnamed := [image["id"] for image in images if not _names_a_file(image["file_name"])]:
        (listed,) = _listed(unnamed, "image", "whose file_name is none")
        raise UserError(f"{export.json_file} can't be split: {listed}", "give it the name of its file, or remove it")
    if outside := [name for name in map(_normal_name, images) if name.startswith(("/", "../"))]:
        (listed,) = _listed(outside, "file name", "leading out of the image folder")
        raise UserError(
            f"{export.json_file} can't be split: {listed}", "name the images from a folder that holds all of them"
        )


def _malformed(entries: Sequence, list_name: str, *keys: str) -> list[str]:
    def is_sound(entry: object) -> bool:
        return isinstance(entry, dict) and all(_IS_SOUND.get(key, is_id)(entry.get(key)) for key in keys)

    wrong = [position for position, entry in enumerate(entries) if not is_sound(entry)]
    return _listed(wrong, "entry", f"of {list_name} without {' or '.join(keys)}", "entries")


def _listed(which: Sequence, noun: str, what: str, plural: str = "") -> list[str]:
    if not which:
        return []
    more = ", ..." if len(which) > _FIRST else ""
    return [f"{counted(len(which), noun, plural)} {what} ({', '.join(map(str, which[:_FIRST]))}{more})"]


def _repeated(values) -> list:
    seen, repeated = set(), {}
    for value in values:
        if value in seen:
            repeated[value] = None
        seen.add(value)
    return list(repeated)


def _normal_name(image: dict) -> str:
    return posixpath.normpath(image["file_name"])


def _names_a_file(name: str) -> bool:
    return posixpath.normpath(name) not in (".", "..") and "\0" not in name


def _require_images(export: Export) -> None:
    folder = export.image_folder
    names = [image["file_name"] for image in export.content["images"]]
    missing = [name for name in names if not os.path.isfile(folder / name)]
    if not missing:
        return
    (listed,) = _listed(missing, "image", f"of {len(names)} not in {folder}")
    raise UserError(f"{export.json_file}: {listed}", _fix_for_missing(export, missing, len(names)))


def _fix_for_missing(export: Export, missing: list[str], total: int) -> str:
    folder = export.image_folder
    for other in (folder.parent, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if all(os.path.isfile(other / name) for name in missing):
            return f"they are in {other}: give that folder"
    # a move takes images away once the whole split is there
    moved = "if `split --transfer move` took them away, the split is whole; else "
    if len(missing) == total:
        corrected = "`repair` corrects names whose last part a file has"
        return f"{moved}give the folder that the file names are relative to; {corrected}"
    command = tool_command(
        "dataset", "repair", export.json_file, folder, "--drop-unreadable", "--output", "repaired.json"
    )
    return f"{moved}put them there, or leave them out: {command}"
