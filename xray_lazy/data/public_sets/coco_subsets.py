"""Sets that are COCO files already, one for each subset."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xray_lazy.data.check.values import are_coordinates, as_whole
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.convert.image_index import ImageIndex
from xray_lazy.data.convert.label import Instance
from xray_lazy.data.public_sets.declaration import Notes, Scan


def coco_subsets(
    subsets: Mapping[str, tuple[str, str]],
    file_names: Mapping[str, str] | None = None,
    merged_height: int | None = None,
) -> Callable[[Path, tuple[str, ...], Notes], dict[str, list[Scan]]]:
    """A reader of COCO files.

    Args:
        subsets: JSON file and folder of the images, by the name of the subset.
        file_names: right ones for wrong ones.
        merged_height: images of this height are there several times, each with the items of one class: those with equal
            contents become one.
    """

    def read(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
        index, found = ImageIndex(folder), {}
        for subset, (json_file, images) in subsets.items():
            if (folder / json_file).is_file():
                scans, heights = _scans(folder / json_file, index, images, file_names or {}, classes, notes)
                tall = [
                    at for at, height in enumerate(heights) if merged_height is not None and height == merged_height
                ]
                found[subset] = _merged(folder, scans, tall, notes)
            else:
                notes.add(f"no {json_file}, so no {subset}", folder)
        return found

    return read


def _scans(
    json_file: Path,
    index: ImageIndex,
    folder: str,
    file_names: Mapping[str, str],
    classes: tuple[str, ...],
    notes: Notes,
) -> tuple[list[Scan], list[object]]:
    """The scans of a file, each image once, and the heights that it states."""
    content = read_coco(json_file)
    names = {one.get("id"): one.get("name") for one in _objects(content["categories"])}
    instances: dict[object, list[Instance]] = defaultdict(list)
    for one in _objects(content["annotations"]):
        box, name = one.get("bbox"), names.get(one.get("category_id"))
        if not isinstance(name, str):
            notes.add("annotation of a class that the file doesn't name: left out", f"id {one.get('id')}")
        elif not isinstance(box, list) or len(box) != 4 or not are_coordinates(box):
            notes.add("annotation without a box: left out", f"id {one.get('id')}")
        elif classes and name not in classes:
            notes.add(f"annotation of class {name}, which is none of the set's: left out", f"id {one.get('id')}")
        else:
            is_crowd = as_whole(one.get("iscrowd")) == 1 or one.get("iscrowd") is True
            instances[one.get("image_id")].append(Instance(name, box, one.get("segmentation") or None, is_crowd))
    scans: dict[Path, Scan] = {}
    heights, seen = [], set()
    for image in _objects(content["images"]):
        if image.get("id") in seen:
            notes.add("image with the id of another one: left out", f"image id {image.get('id')}")
            continue
        seen.add(image.get("id"))
        name = str(image.get("file_name"))
        if name in file_names:
            notes.add(f"file name {name!r}, which is {file_names[name]}", f"image id {image.get('id')}")
            name = file_names[name]
        file = index.named(f"{folder}/{name}")
        if file is None:
            notes.add(f"image of {json_file.name} that is not there: left out", name)
            continue
        items = tuple(instances.get(image.get("id"), ()))
        if file in scans:
            notes.add("image that is listed twice: became one with the items of both", file)
            scans[file] = replace(scans[file], instances=scans[file].instances + items)
        else:
            scans[file] = Scan(file, items, file.stem)
            heights.append(image.get("height"))
    for image_id in (one for one in instances if one not in seen):
        notes.add(
            "annotation of an image that is not listed: left out", f"image id {image_id}", len(instances[image_id])
        )
    return list(scans.values()), heights


def _objects(entries: Iterable[object]) -> list[dict]:
    """Those whose ids can be looked up."""
    ids = ("id", "image_id", "category_id")
    return [
        one for one in entries if isinstance(one, dict) and not any(isinstance(one.get(k), list | dict) for k in ids)
    ]


def _merged(folder: Path, scans: list[Scan], tall: Sequence[int], notes: Notes) -> list[Scan]:
    """One scan of those, among the `tall` ones, that have the same contents, with the items of all."""
    same: dict[bytes, list[int]] = defaultdict(list)
    for at in tall:
        with (folder / scans[at].file).open("rb") as stream:
            same[hashlib.file_digest(stream, "sha256").digest()].append(at)
    merged, gone = list(scans), set()
    for first, *copies in same.values():
        items = {repr(item): item for at in (first, *copies) for item in scans[at].instances}
        merged[first] = Scan(scans[first].file, tuple(items.values()), scans[first].group)
        gone |= set(copies)
        if copies:
            what = "copy of a scan with the items of another class, which became one"
            notes.add(what, scans[first].file, len(copies))
    return [scan for at, scan in enumerate(merged) if at not in gone]
