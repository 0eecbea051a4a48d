"""Sets that are COCO files already, one for each subset."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from xray_lazy.data.convert.label import Instance
from xray_lazy.data.public_sets.declaration import Notes, Scan
from xray_lazy.data.public_sets.files import Files, same_contents
from xray_lazy.errors import UserError


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
        found = {}
        for subset, (json_file, images) in subsets.items():
            if (folder / json_file).is_file():
                files = Files(folder / images, folder)
                scans, tall = _scans(folder / json_file, files, file_names or {}, merged_height, notes)
                found[subset] = _merged(folder, scans, tall, notes) if tall else scans
            else:
                notes.add(f"no {json_file}, so no {subset}", folder)
        return found

    return read


def _scans(
    json_file: Path, files: Files, file_names: Mapping[str, str], merged_height: int | None, notes: Notes
) -> tuple[list[Scan], list[int]]:
    try:
        content = json.loads(json_file.read_text(encoding="utf-8-sig"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        images, annotations = content["images"], content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{json_file} is not the COCO file that it should be: {error}", "get it once more") from None
    instances: dict = {}
    for one in annotations:
        if one["category_id"] not in names:
            notes.add("annotation of a class that the file doesn't name: left out", f"id {one.get('id')}")
        else:
            mask = one.get("segmentation") or None
            instances.setdefault(one["image_id"], []).append(Instance(names[one["category_id"]], one["bbox"], mask))
    scans, tall = [], []
    for image in images:
        name = image["file_name"]
        if name in file_names:
            notes.add(f"file name {name!r}, which is {file_names[name]}", f"image id {image['id']}")
            name = file_names[name]
        file = files.find(name)
        if file is None:
            notes.add(f"image of {json_file.name} that is not there: left out", name)
            continue
        if merged_height is not None and image.get("height") == merged_height:
            tall.append(len(scans))
        scans.append(Scan(file, tuple(instances.get(image["id"], ())), group=Path(name).stem))
    return scans, tall


def _merged(folder: Path, scans: list[Scan], tall: list[int], notes: Notes) -> list[Scan]:
    """One scan of those that have the same contents, with the items of all."""
    gone = set()
    for first, *copies in same_contents([folder / scans[at].file for at in tall]):
        places = [tall[first], *(tall[copy] for copy in copies)]
        items = {repr(item): item for at in places for item in scans[at].instances}
        scans[places[0]] = Scan(scans[places[0]].file, tuple(items.values()), group=scans[places[0]].group)
        gone |= set(places[1:])
        notes.add(
            "copy of a scan with the items of another class, which became one", scans[places[0]].file, len(copies)
        )
    return [scan for at, scan in enumerate(scans) if at not in gone]
