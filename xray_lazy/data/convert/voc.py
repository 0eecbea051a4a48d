"""Pascal VOC: one XML file per image, boxes in pixels counted from 1, the last pixel included."""

import codecs
import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from xray_lazy.data.convert.label import Instance, Label, Reading, as_coordinates, stated_size
from xray_lazy.utils.wording import AS_UTF_8, not_utf_8

SUFFIX = ".xml"

_DECLARATION = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["'][^>]*\?>""")


def open_label(path: Path, reading: Reading) -> Label | None:
    """Read one XML file; parts of objects are passed over, and so are marks like `difficult`, which COCO lacks."""
    root = read_xml(path, "annotation", "a Pascal VOC file", reading)
    if root is None:
        return None
    try:
        size = stated_size(root.findtext("size/width"), root.findtext("size/height"))
    except ValueError as error:
        reading.fault(path, str(error))
        return None
    instances = []
    for number, node in enumerate(root.findall("object"), start=1):
        if _is_empty(node):
            reading.left_out["empty object", "empty objects"] += 1
        elif instance := _instance(path, number, node, reading):
            instances.append(instance)
    return Label(path, lambda _: instances, (root.findtext("filename") or "").strip() or None, size)


def read_xml(path: Path, tag: str, what: str, reading: Reading) -> Element | None:
    """The root of an XML file, which is `what` where it has this `tag`; else the fault is noted."""
    from defusedxml import DefusedXmlException, ElementTree

    try:
        root = ElementTree.fromstring(_as_utf_8(path.read_bytes()))
    except UnicodeDecodeError as error:
        is_stated = error.encoding != "utf-8"
        reading.fault(path, f"not {error.encoding}, as it states" if is_stated else f"{not_utf_8(error)}: {AS_UTF_8}")
        return None
    except ParseError as error:
        reading.fault(f"{path}:{error.position[0]}", f"not valid XML ({error})")
        return None
    except DefusedXmlException as error:
        reading.fault(
            path, f"declares entities, which labels don't need and which can do harm ({type(error).__name__})"
        )
        return None
    except (ValueError, LookupError) as error:  # an encoding that does not exist or does not fit
        reading.fault(path, f"not valid XML ({error})")
        return None
    if root.tag != tag:
        reading.fault(path, f"<{root.tag}> instead of <{tag}>: not {what}")
        return None
    return root


def _as_utf_8(data: bytes) -> bytes:
    """The XML in UTF-8: expat, which reads it, knows no encoding of several bytes a letter, as GBK."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data
    if stated := _DECLARATION.match(data):
        return data[stated.end() :].decode(stated[1].decode()).encode()
    data.decode("utf-8")
    return data


def _is_empty(node: Element) -> bool:
    """Whether an object says neither what nor where it is, as some tools leave it of a deleted one."""
    parts = [part for part in node if part.tag in ("name", "bndbox", "robndbox", "polygon")]
    return not any(text.strip() for part in parts for text in part.itertext())


def _instance(path: Path, number: int, node: Element, reading: Reading) -> Instance | None:
    name = (node.findtext("name") or "").strip()
    where = f"{path}: object {number}" + (f" ({name})" if name else "")
    if not name:
        reading.fault(where, "no <name>")
        return None
    if not reading.knows_class(where, name):
        return None
    try:
        x_min, y_min, x_max, y_max = (_number(node, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        mask = _polygon(node, 0 if reading.zero_based else 1)
    except ValueError as error:
        reading.fault(where, str(error))
        return None
    if x_max < x_min or y_max < y_min:
        reading.fault(where, f"the box ends before it starts: x {x_min:g} to {x_max:g}, y {y_min:g} to {y_max:g}")
        return None
    if reading.zero_based:
        return Instance(name, [x_min, y_min, x_max - x_min, y_max - y_min], mask)
    if min(x_min, y_min) < 1:
        reading.fault(
            where, f"the box starts at {x_min:g}, {y_min:g}, but VOC counts from 1; is it a --zero-based set?"
        )
        return None
    return Instance(name, [x_min - 1, y_min - 1, x_max - x_min + 1, y_max - y_min + 1], mask)


def _polygon(node: Element, origin: int) -> list[list[float]] | None:
    """The outline that some tools add as <polygon><x1/><y1/><x2/>...</polygon>."""
    outline = node.find("polygon")
    if outline is None:
        return None
    if len(outline) < 6:
        raise ValueError("a polygon of fewer than 3 points")
    axes = [(axis, f"polygon/{axis}{point}") for point in range(1, len(outline) // 2 + 1) for axis in "xy"]
    return [[_number(node, tag) - origin for _, tag in axes]]


def _number(node: Element, tag: str) -> float:
    text = node.findtext(tag)
    if text is None:
        raise ValueError(f"no <{tag}>")
    try:
        (number,) = as_coordinates([text])
    except ValueError:
        raise ValueError(f"<{tag}> is {text.strip()!r}, not a number of pixels") from None
    return number
