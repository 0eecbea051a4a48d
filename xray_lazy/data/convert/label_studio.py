"""Label Studio: one JSON file with all images; rectangles, ellipses, polygons and brush masks in percent of the image.

Regions of one label and one `parentID` chain are one instance; a crowd region has the note "crowd".
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from xray_lazy.data.convert.label import Instance, Label, Reading, as_coordinates, merged_parts, stated_size
from xray_lazy.data.convert.label_studio_runs import decode_brush
from xray_lazy.data.convert.labelme import read_json
from xray_lazy.data.convert.turned_shapes import ellipse, turned_box
from xray_lazy.data.convert.voc import read_xml

SUFFIX = ".json"
CONFIG = "label_config.xml"
CROWD = "crowd"
SHAPES = {"rectanglelabels": "rectangle", "polygonlabels": "polygon", "brushlabels": "brush"}
_READ = (*SHAPES, "ellipselabels")
_WITHOUT_AREA = {
    "keypointlabels": ("key point", "key points"),
    "choices": ("choice", "choices"),
    "relation": ("relation", "relations"),
    "textarea": ("text", "texts"),
    "rating": ("rating", "ratings"),
    "number": ("number", "numbers"),
}
# what Label Studio puts before the name of an image that was uploaded
_UPLOAD = re.compile(r"^.*/upload/\d+/([0-9a-f]{8}-)?")


def open_labels(path: Path, reading: Reading) -> list[Label]:
    """Read one JSON file; a COCO file that lies beside it is passed over.

    The project's labelling interface, where it lies beside it, tells the order of the classes.
    """
    content = read_json(path, reading)
    if content is None:
        return []
    if not isinstance(content, list) or not all(isinstance(t, dict) and "data" in t for t in content):
        reading.fault(path, "no list of tasks with `data`: not Label Studio's JSON (JSON-MIN and others are not read)")
        return []
    if not content:
        reading.fault(path, "no tasks in it")
    config = path.with_name(CONFIG)
    interface = read_xml(config, "View", "a labelling interface", reading) if config.is_file() else None
    declared = [node.get("value", "").strip() for node in interface.iter("Label")] if interface is not None else []
    reading.declare(declared)
    return [label for task in content if (label := _label(path, task, reading))]


def _label(path: Path, task: dict, reading: Reading) -> Label | None:
    try:
        name = image_name(task["data"])
    except ValueError as error:
        reading.fault(f"{path}: task {task.get('id', '')}", f"the address of its image is none ({error})")
        return None
    where = f"{path}: task {task.get('id', name)}"
    if name is None:
        reading.fault(where, "no image in its `data`")
        return None
    try:
        regions = _regions(task)
    except ValueError as error:
        reading.fault(where, f"not as Label Studio writes it ({error})")
        return None
    if regions is None:
        return Label(path, lambda _: [], name, place=name, is_unlabelled=True)
    by_id = {region["id"]: region for region in regions if isinstance(region.get("id"), str)}
    groups: dict[tuple, list[Instance]] = {}
    size = None
    for number, region in enumerate(regions):
        kind = region.get("type")
        if isinstance(kind, str) and kind in _WITHOUT_AREA:
            reading.left_out[_WITHOUT_AREA[kind]] += 1
            continue
        try:
            size = _size(region, size)
            instance = _instance(region, size)
            head = by_id.get(_text_of(region, "parentID"), region)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            reading.fault(f"{where}, region {number}", f"not as Label Studio writes it ({error})")
            continue
        if reading.knows_class(where, instance.class_name):
            groups.setdefault((instance.class_name, str(head.get("id", number))), []).append(instance)
    instances = [one for parts in groups.values() for one in merged_parts(parts, size or (1, 1))]
    return Label(path, lambda _: instances, name, size, place=name)


def image_name(data: Any) -> str | None:
    """The path of the image of a task: of a local file, of an upload, or the last part of an address.

    Raises:
        ValueError: the address can't be one.
    """
    texts = [value for key, value in data.items() if isinstance(value, str)] if isinstance(data, dict) else []
    address = data["image"] if texts and isinstance(data.get("image"), str) else texts[0] if texts else None
    if not address:
        return None
    parts = urlsplit(address)
    if local := parse_qs(parts.query).get("d"):
        return local[0]
    return _UPLOAD.sub("", unquote(parts.path)).lstrip("/") or None


def _regions(task: dict) -> list[dict] | None:
    """What people have marked, before that what a model has; None where people have skipped the task or not begun.

    Raises:
        ValueError: one of the lists is none.
    """
    annotations = _objects(task, "annotations") if "annotations" in task else []
    made = [one for one in annotations if not one.get("was_cancelled")]
    if not annotations and task.get("predictions"):
        made = _objects(task, "predictions")
    return _objects(made[0], "result") if made else None


def _objects(owner: dict, key: str) -> list[dict]:
    entries = owner.get(key)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ValueError(f"`{key}` is no list of objects")
    return entries


def _text_of(region: dict, key: str) -> str | None:
    if not isinstance(text := region.get(key), str | None):
        raise ValueError(f"`{key}` is {text!r}, no text")
    return text


def _size(region: dict, before: tuple[int, int] | None) -> tuple[int, int]:
    """Of the image, which all of its regions state alike."""
    size = stated_size(region.get("original_width"), region.get("original_height"))
    if size is None:
        raise ValueError("no original_width and original_height")
    if before not in (None, size):
        raise ValueError(f"an image of {size[0]}x{size[1]}, and of {before[0]}x{before[1]} in the regions before")
    return size


def _instance(region: dict, size: tuple[int, int]) -> Instance:
    if turned := region.get("image_rotation"):
        raise ValueError(f"on an image turned by {turned}: what its numbers mean then depends on the version")
    kind, value = region.get("type"), region["value"]
    if not isinstance(kind, str) or kind not in _READ:
        raise ValueError(f"a region of type {kind!r}; known are {', '.join(_READ)}")
    names = value[kind]
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        raise ValueError(f"{kind} is {names!r}, not one label")
    meta = region.get("meta") or {}
    if not isinstance(meta, dict):
        raise ValueError(f"`meta` is {meta!r}, no object")
    notes = meta.get("text") or []
    score = region.get("score")
    common = (
        CROWD in (notes if isinstance(notes, list) else [notes]),
        float(score) if isinstance(score, int | float) else None,
    )
    (degrees,) = as_coordinates([value.get("rotation") or 0])

    def pixels(shares: Iterable[object]) -> list[float]:
        return [share * size[i % 2] / 100 for i, share in enumerate(as_coordinates(shares))]

    if kind == "rectanglelabels":
        box = pixels(value[side] for side in ("x", "y", "width", "height"))
        if min(box[2:]) < 0:
            raise ValueError(f"a rectangle {box[2]:g} wide and {box[3]:g} high")
        if degrees:  # around its first corner
            return Instance(names[0], None, [turned_box(box, box[:2], degrees)], *common)
        return Instance(names[0], box, None, *common)
    if kind == "ellipselabels":
        x, y, *radii = pixels(value[part] for part in ("x", "y", "radiusX", "radiusY"))
        return Instance(names[0], None, [ellipse((x, y), radii, degrees)], *common)
    if kind == "polygonlabels":
        points = pixels(part for x, y in value["points"] for part in (x, y))
        if len(points) < 6:
            raise ValueError("a polygon of fewer than 3 points")
        return Instance(names[0], None, [points], *common)
    from xray_lazy.data.masks.run_lengths import encode

    return Instance(names[0], None, encode(decode_brush(value["rle"], size[1], size[0])), *common)
