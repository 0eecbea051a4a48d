"""Sets with a JSON file of their own form for each bag or image: DvXray, PIXray, STCray; and GDXray's MATLAB files."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from xray_lazy.data.check.values import are_coordinates
from xray_lazy.data.convert import labelme
from xray_lazy.data.convert.image_index import ImageIndex, files_below
from xray_lazy.data.convert.label import Instance, Reading
from xray_lazy.data.public_sets.declaration import Notes, Scan, require_labels

VIEWS = {"OL": "ol_bb", "SD": "sd_bb"}


def read_dvxray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Both views of each bag, as images of one group; a box that can't be seen in a view is left out of it."""
    index, scans = ImageIndex(folder), []
    found: set[Path | None] = set()
    for path in _json_files(folder):
        objects = _objects(path, classes, notes)
        for view, key in VIEWS.items():
            file = index.named(f"{path.stem}_{view}")
            found.add(file)
            if file is None:
                notes.add("view of a bag that is not there", f"{path.stem}_{view}")
                continue
            if objects is None:
                continue
            items = []
            for item in objects:
                if box := _box(item.get(key)):
                    items.append(Instance(item["label"], box))
                else:
                    notes.add("item that can't be seen in a view: left out of it", file.stem)
            scans.append(Scan(file, tuple(items), path.stem, view=view))
    _note_unlabelled(index, found, notes)
    return {"all": scans}


def read_pixray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Polygons; the image has the name of the JSON file."""
    index, scans = ImageIndex(folder), []
    found: set[Path | None] = set()
    for path in _json_files(folder):
        file = index.named(path.stem)
        found.add(file)
        if file is None:
            notes.add("JSON file without an image: left out", path.name)
            continue
        objects = _objects(path, classes, notes)
        if objects is None:
            continue
        items = []
        for item in objects:
            if outline := _outline(item.get("polygon")):
                items.append(Instance(item["label"], mask=[outline]))
            else:
                notes.add("outline that is not of 3 or more points: left out", path.name)
        if objects and not items:
            notes.add("image none of whose outlines can be read: left out", path.name)
        else:
            scans.append(Scan(file, tuple(items), path.stem))
    _note_unlabelled(index, found, notes)
    return {"all": scans}


def read_stcray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """labelme files: outlines where there are some, else boxes. Many state their image in another scale."""
    index, subsets = ImageIndex(folder), {}
    labelled = set()
    for subset, place in (("train_all", "STCray_TrainSet"), ("test", "STCray_TestSet")):
        subsets[subset] = scans = []
        labels = {
            path.with_suffix(""): Path(place, kind, path)
            for kind in ("Json_BB", "Json")
            for path in files_below(folder / place / kind)
            if path.suffix.lower() == ".json"
        }
        for file in index.below(f"{place}/Images"):
            label = labels.get(file.relative_to(f"{place}/Images").with_suffix(""))
            if label is None:
                scans.append(Scan(file, (), file.stem))
                continue
            labelled.add(file)
            reading = Reading()
            read = labelme.open_label(folder / label, reading)
            instances = tuple(read.instances(read.size or (0, 0))) if read else ()
            if read is None or (reading.faults and not instances):
                told = reading.faults[0] if reading.faults else label
                notes.add("label that can't be read: left out with its image", told)
                continue
            for fault in reading.faults:
                notes.add("shape that can't be read: left out", fault)
            scans.append(Scan(file, instances, file.stem, read.size))
    require_labels(labelled, sum(map(len, subsets.values())), str(folder), folder / "STCray_TrainSet" / "Json")
    return subsets


def read_gdxray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Grey scans by series, of which those with a file of boxes are taken: the others are not empty, but unlabelled."""
    files = ImageIndex(folder).below("Baggages")
    boxes = {series: _series_boxes(folder / series / "BoundingBox.mat", notes) for series in {f.parent for f in files}}
    scans = []
    for file in files:
        rows = boxes[file.parent]
        if rows is None:
            notes.add("image of a series without boxes: left out", file)
            continue
        number = file.stem.rpartition("_")[2]
        items = [
            Instance(classes[0], [x1, y1, x2 - x1, y2 - y1])
            for index, x1, x2, y1, y2, *_ in rows
            if number.isdecimal() and index == int(number)
        ]
        scans.append(Scan(file, tuple(items), file.parent.name))
    return {"all": scans}


def _series_boxes(path: Path, notes: Notes) -> list[list[float]] | None:
    """Rows `[index, x1, x2, y1, y2]`; None where there is no such file."""
    from scipy.io import loadmat

    if not path.is_file():
        return None
    try:
        rows = loadmat(path)["bb"].tolist()
    except Exception as error:  # it raises whatever it stumbles over in a damaged file
        notes.add("file of boxes that can't be read: its series is left out", f"{path.parent.name}: {error}")
        return None
    rows = rows if isinstance(rows, list) else [rows]
    sound = [row for row in rows if isinstance(row, list) and len(row) >= 5 and are_coordinates(row[:5])]
    if len(sound) < len(rows):
        notes.add("row of a file of boxes without five numbers: left out", path.parent.name, len(rows) - len(sound))
    if rows and not sound:
        notes.add("file of boxes that can't be read: its series is left out", f"{path.parent.name}: none in it")
        return None
    return sound


def _json_files(folder: Path) -> list[Path]:
    return [folder / path for path in files_below(folder) if path.suffix.lower() == ".json"]


def _note_unlabelled(index: ImageIndex, labelled: Collection[Path | None], notes: Notes) -> None:
    for file in index.names:
        if file not in labelled:
            notes.add("image without a JSON file: left out", file)


def _objects(path: Path, classes: tuple[str, ...], notes: Notes) -> list[dict] | None:
    """The objects of a file that are of the set's classes; None where it can't be read.

    An empty bag has the text "None" instead.
    """
    try:
        objects = json.loads(path.read_bytes())["objects"]
        if objects in (None, "None"):
            return []
        if not isinstance(objects, list) or not all(isinstance(item, dict) for item in objects):
            raise ValueError("`objects` is no list of objects")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        notes.add("JSON file that can't be read: left out with its images", f"{path.name}: {error}")
        return None
    for label in (item.get("label") for item in objects):
        if label not in classes:
            notes.add(f"item of class {label}, which is none of the set's: left out", path.name)
    return [item for item in objects if item.get("label") in classes]


def _box(corners: Any) -> list[float] | None:
    if not isinstance(corners, list) or len(corners) != 4 or not are_coordinates(corners):
        return None
    x1, y1, x2, y2 = corners
    return [x1, y1, x2 - x1, y2 - y1]


def _outline(points: Any) -> list[float] | None:
    """The points [[x, y], ...] in one list."""
    points = points if isinstance(points, list) else []
    is_sound = all(isinstance(point, list) and len(point) == 2 and are_coordinates(point) for point in points)
    return [float(value) for point in points for value in point] if is_sound and len(points) > 2 else None
