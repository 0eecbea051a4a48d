"""CVAT: all images in one `annotations.xml`, "CVAT for images 1.1". Shapes of one `group_id` are one instance."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement

import cv2
import numpy as np

from xray_lazy.data.convert.cvat import CROWD, SCORE
from xray_lazy.data.convert.label import Instance
from xray_lazy.data.label_export.labelled_image import LabelledImage, Labels, bitmap_of, number
from xray_lazy.data.label_export.voc_writer import as_text


def write_cvat(labels: Labels) -> Iterator[tuple[str, str]]:
    """Everything that COCO has, and scores."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "size").text = str(len(labels.images))
    SubElement(task, "mode").text = "annotation"
    declared = SubElement(task, "labels")
    for name in labels.classes:
        _declare(SubElement(declared, "label"), name)
    for id, image in enumerate(labels.images):
        width, height = map(str, image.size)
        node = SubElement(root, "image", id=str(id), name=image.name, width=width, height=height)
        for group, instance in enumerate(image.instances, start=1):
            _add_shapes(node, instance, image, group, "auto" if labels.are_predictions else "manual")
    yield "annotations.xml", as_text(root)


def _declare(node: Element, name: str) -> None:
    """A class, with the attributes that its shapes may have: CVAT passes over others."""
    SubElement(node, "name").text = name
    attributes = SubElement(node, "attributes")
    for attribute, kind, default in ((CROWD, "checkbox", "false"), (SCORE, "text", "")):
        one = SubElement(attributes, "attribute")
        for key, text in (("name", attribute), ("mutable", "False"), ("input_type", kind), ("default_value", default)):
            SubElement(one, key).text = text
        SubElement(one, "values").text = default


def _add_shapes(node: Element, instance: Instance, image: LabelledImage, group: int, source: str) -> None:
    common = {"label": instance.class_name, "source": source, "occluded": "0"}
    parts = list(_parts(instance, image))
    for kind, place in parts:
        grouped = {"group_id": str(group)} if len(parts) > 1 else {}
        shape = SubElement(node, kind, {**common, **place, "z_order": "0", **grouped})
        if instance.is_crowd:
            SubElement(shape, "attribute", name=CROWD).text = "true"
        if instance.score is not None:
            SubElement(shape, "attribute", name=SCORE).text = f"{instance.score:.4f}"


def _parts(instance: Instance, image: LabelledImage) -> Iterator[tuple[str, dict[str, str]]]:
    if not instance.mask:
        x, y, width, height = instance.box or (0, 0, 0, 0)
        corners = {"xtl": x, "ytl": y, "xbr": x + width, "ybr": y + height}
        yield "box", {name: number(value) for name, value in corners.items()}
    elif isinstance(instance.mask, list):
        for part in instance.mask:
            pairs = zip(part[0::2], part[1::2], strict=True)
            yield "polygon", {"points": ";".join(f"{number(x)},{number(y)}" for x, y in pairs)}
    else:
        bitmap = bitmap_of(instance.mask, image.size)
        x, y, width, height = cv2.boundingRect(bitmap)
        place = {"left": str(x), "top": str(y), "width": str(width), "height": str(height)}
        yield "mask", {"rle": ", ".join(map(str, _runs(bitmap[y : y + height, x : x + width]))), **place}


def _runs(window: np.ndarray) -> list[int]:
    """Lengths of the runs of 0 and 1 in turns, row by row."""
    pixels = np.concatenate([[0], window.ravel()])
    ends = np.flatnonzero(np.diff(pixels))
    return np.diff(np.concatenate([[0], ends, [window.size]])).tolist()
