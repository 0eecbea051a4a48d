"""CVAT for images 1.1: one XML file with all images; boxes, ellipses, polygons and masks.

Polygons and masks of one label and `group_id` are one instance; `iscrowd` and `score` are attributes.
"""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from xray_lazy.data.convert.label import Instance, Label, Reading, as_coordinates, merged_parts, stated_size
from xray_lazy.data.convert.turned_shapes import ellipse, turned_box
from xray_lazy.data.convert.voc import read_xml

SUFFIX = ".xml"
CROWD, SCORE = "iscrowd", "score"
_WITHOUT_AREA = {
    "points": ("set of points", "sets of points"),
    "polyline": ("line strip", "line strips"),
    "skeleton": ("skeleton", "skeletons"),
    "cuboid": ("cuboid", "cuboids"),
    "tag": ("tag", "tags"),
}


def open_labels(path: Path, reading: Reading) -> list[Label]:
    """Read one XML file; where no other classes are given, its list of them tells their order."""
    root = read_xml(path, "annotations", "a CVAT file for images", reading)
    if root is None:
        return []
    if root.find("track") is not None:
        reading.fault(path, "CVAT for video: export the task as CVAT for images 1.1")
    reading.declare((node.text or "").strip() for node in root.iterfind("meta//labels/label/name"))
    return [label for node in root.iterfind("image") if (label := _label(path, node, reading))]


def _label(path: Path, node: Element, reading: Reading) -> Label | None:
    name = node.get("name") or ""
    where = f"{path}: image {name or node.get('id')}"
    try:
        size = stated_size(node.get("width"), node.get("height"))
    except ValueError as error:
        reading.fault(where, str(error))
        return None
    if not name or size is None:
        reading.fault(where, "no name, width or height")
        return None
    groups: dict[tuple, list[Instance]] = {}
    for number, shape in enumerate(node):
        if shape.tag in _WITHOUT_AREA:
            reading.left_out[_WITHOUT_AREA[shape.tag]] += 1
            continue
        try:
            instance = _instance(shape, size)
        except (ValueError, TypeError, OverflowError) as error:
            reading.fault(f"{where}, {shape.tag} {number + 1}", f"not as CVAT writes it ({error})")
            continue
        if reading.knows_class(where, instance.class_name):
            group = shape.get("group_id", "0")
            key = (instance.class_name, number if group == "0" else f"group {group}")
            groups.setdefault(key, []).append(instance)
    instances = [one for parts in groups.values() for one in merged_parts(parts, size)]
    return Label(path, lambda _: instances, name, size, place=name)


def _instance(shape: Element, size: tuple[int, int]) -> Instance:
    told = {node.get("name"): (node.text or "").strip() for node in shape.iterfind("attribute")}
    score = float(told[SCORE]) if told.get(SCORE) else None
    name, is_crowd = (shape.get("label") or "").strip(), told.get(CROWD, "").lower() in ("true", "1")
    if not name:
        raise ValueError("no label")
    (degrees,) = as_coordinates([shape.get("rotation") or "0"])
    if shape.tag == "box":
        left, top, right, bottom = as_coordinates(shape.get(side, "") for side in ("xtl", "ytl", "xbr", "ybr"))
        box = [left, top, right - left, bottom - top]
        if degrees:
            outline = turned_box(box, ((left + right) / 2, (top + bottom) / 2), degrees)
            return Instance(name, None, [outline], is_crowd, score)
        return Instance(name, box, None, is_crowd, score)
    if shape.tag == "ellipse":
        x, y, *radii = as_coordinates(shape.get(part, "") for part in ("cx", "cy", "rx", "ry"))
        return Instance(name, None, [ellipse((x, y), radii, degrees)], is_crowd, score)
    if shape.tag == "polygon":
        points = as_coordinates(value for pair in shape.get("points", "").split(";") for value in pair.split(","))
        if len(points) < 6 or len(points) % 2:
            raise ValueError("a polygon of fewer than 3 points")
        return Instance(name, None, [points], is_crowd, score)
    if shape.tag == "mask":
        return Instance(name, None, _run_lengths(shape, size), is_crowd, score)
    raise ValueError(f"shape {shape.tag!r} is unknown")


def _run_lengths(shape: Element, size: tuple[int, int]) -> dict:
    from xray_lazy.data.masks.run_lengths import encode

    left, top, width, height = (int(shape.get(side, "")) for side in ("left", "top", "width", "height"))
    runs = [int(run) for run in shape.get("rle", "").split(",")]
    if sum(runs) != width * height or min(runs) < 0 or min(left, top) < 0:
        raise ValueError(f"runs of {sum(runs)} pixels for {width}x{height}")
    if left + width > size[0] or top + height > size[1]:
        raise ValueError("a mask beyond its image")
    canvas = np.zeros((size[1], size[0]), np.uint8)
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    canvas[top : top + height, left : left + width] = pixels
    return encode(canvas)
