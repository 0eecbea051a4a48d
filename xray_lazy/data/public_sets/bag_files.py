"""Sets with a JSON file of their own form for each bag or image: DvXray, PIXray, STCray; and GDXray's MATLAB files."""

import json
from pathlib import Path

from xray_lazy.data.convert import labelme
from xray_lazy.data.convert.image_index import files_below
from xray_lazy.data.convert.label import Instance, Reading
from xray_lazy.data.public_sets.declaration import Notes, Scan
from xray_lazy.data.public_sets.files import Files

VIEWS = {"OL": "ol_bb", "SD": "sd_bb"}


def read_dvxray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Both views of each bag, as images of one group; a box that can't be seen in a view is left out of it."""
    scans = []
    for place in ("DvXray_Positive_Samples", "DvXray_Negative_Samples"):
        files = Files(folder / place, folder)
        for path in _json_files(folder / place):
            objects = _objects(path, notes)
            for view, key in VIEWS.items():
                file = files.find(f"{path.stem}_{view}")
                if file is None:
                    notes.add("view of a bag that is not there", f"{path.stem}_{view}")
                    continue
                boxes = []
                for item in objects:
                    box = item.get(key)
                    if isinstance(box, list) and len(box) == 4:
                        boxes.append(
                            (item, Instance(item["label"], [box[0], box[1], box[2] - box[0], box[3] - box[1]]))
                        )
                    else:
                        notes.add("item that can't be seen in a view: left out of it", f"{path.stem}_{view}")
                known = _known(boxes, classes, path, notes)
                scans.append(Scan(file, tuple(known), group=path.stem))
    return {"all": scans}


def read_pixray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Polygons; the image has the name of the JSON file."""
    files, scans = Files(folder, folder), []
    for path in _json_files(folder):
        file = files.find(path.stem)
        if file is None:
            notes.add("JSON file without an image: left out", path.name)
            continue
        shapes = []
        for item in _objects(path, notes):
            points = item.get("polygon")
            if isinstance(points, list) and len(points) > 2:
                outline = [float(value) for point in points for value in point]
                shapes.append((item, Instance(item["label"], mask=[outline])))
            else:
                notes.add("outline of fewer than 3 points: left out", path.name)
        scans.append(Scan(file, tuple(_known(shapes, classes, path, notes)), group=path.stem))
    return {"all": scans}


def read_stcray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """labelme files: outlines where there are some, else boxes. Many state their image in another scale."""
    subsets = {}
    for subset, place in (("train", "STCray_TrainSet"), ("test", "STCray_TestSet")):
        images = folder / place / "Images"
        subsets[subset] = scans = []
        for file in Files(images, folder).all():
            inside = (folder / file).relative_to(images).with_suffix(".json")
            label = next((p for k in ("Json", "Json_BB") if (p := folder / place / k / inside).is_file()), None)
            reading = Reading()
            read = labelme.open_label(label, reading) if label else None
            for fault in reading.faults:
                notes.add("shape that can't be read: left out", fault)
            size = read.size if read else None
            scans.append(Scan(file, tuple(read.instances(size or (0, 0)) if read else ()), file.stem, size))
    return subsets


def read_gdxray(folder: Path, classes: tuple[str, ...], notes: Notes) -> dict[str, list[Scan]]:
    """Grey scans by series, of which those with a file of boxes are taken: the others are not empty, but unlabelled."""
    from scipy.io import loadmat

    files = Files(folder / "Baggages", folder).all()
    boxes: dict[Path, list] = {}
    for series in sorted({file.parent for file in files}):
        path = folder / series / "BoundingBox.mat"
        if path.is_file():
            boxes[series] = loadmat(path)["bb"].tolist()
    scans = []
    for file in files:
        if file.parent not in boxes:
            notes.add("image of a series without boxes: left out", file)
            continue
        number = file.stem.rpartition("_")[2]
        rows = [row for row in boxes[file.parent] if number.isdigit() and int(row[0]) == int(number)]
        items = [Instance(classes[0], [x1, y1, x2 - x1, y2 - y1]) for _, x1, x2, y1, y2 in (row[:5] for row in rows)]
        scans.append(Scan(file, tuple(items), group=file.parent.name))
    return {"all": scans}


def _json_files(folder: Path) -> list[Path]:
    return [folder / path for path in files_below(folder) if path.suffix.lower() == ".json"]


def _objects(path: Path, notes: Notes) -> list[dict]:
    """The labelled objects of a file; an empty bag has the text "None" instead."""
    try:
        objects = json.loads(path.read_text(encoding="utf-8-sig")).get("objects")
    except (ValueError, AttributeError) as error:
        notes.add("JSON file that can't be read: its bag has no items", f"{path.name}: {error}")
        return []
    return [item for item in objects if isinstance(item, dict) and "label" in item] if isinstance(objects, list) else []


def _known(found: list[tuple[dict, Instance]], classes: tuple[str, ...], path: Path, notes: Notes) -> list[Instance]:
    for item, _ in found:
        if item["label"] not in classes:
            notes.add(f"item of class {item['label']}, which is none of the set's: left out", path.name)
    return [instance for item, instance in found if item["label"] in classes]
