"""Pascal VOC: an XML file for each image, below `Annotations/` as the images are below `JPEGImages/`."""

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from xray_lazy.data.check.shapes import clip_box
from xray_lazy.data.convert.label import Instance
from xray_lazy.data.label_export.labelled_image import LabelledImage, Labels, box_of, number


def write_voc(labels: Labels) -> Iterator[tuple[str, str]]:
    """Boxes count from 1, their last pixel included; a mask of one outline is added as `<polygon>`."""
    labels.lose_scores()
    for image in labels.images:
        root = Element("annotation")
        _add(root, "folder", str(image.path.parent))
        _add(root, "filename", image.path.name)
        size = SubElement(root, "size")
        for name, value in zip(("width", "height", "depth"), (*image.size, 3), strict=True):
            _add(size, name, str(value))
        _add(root, "segmented", "0")
        for instance in labels.kept(image):
            _add_object(root, instance, image, labels)
        yield f"Annotations/{image.path.with_suffix('.xml')}", as_text(root)
    yield "classes.txt", class_list(labels)


def class_list(labels: Labels) -> str:
    """The names in order, for `convert --classes`, as the labels alone don't tell it."""
    return "".join(f"{name}\n" for name in labels.classes)


def as_text(root: Element) -> str:
    """The XML, a line for each element."""
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_object(root: Element, instance: Instance, image: LabelledImage, labels: Labels) -> None:
    node = SubElement(root, "object")
    _add(node, "name", instance.class_name)
    for name, value in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
        _add(node, name, value)
    x, y, width, height = clip_box(box_of(instance), image.size)
    if min(width, height) < 1:  # the last pixel is included: a box is at least one wide
        labels.lost["size of a box below a pixel", "sizes of boxes below a pixel"] += 1
        width, height = max(width, 1), max(height, 1)
    box = SubElement(node, "bndbox")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + width, y + height), strict=True):
        _add(box, name, number(value))
    if isinstance(instance.mask, list) and len(instance.mask) == 1:
        polygon = SubElement(node, "polygon")
        for at, value in enumerate(instance.mask[0]):
            _add(polygon, f"{'xy'[at % 2]}{at // 2 + 1}", number(value + 1))
    elif instance.mask:
        labels.lost["mask that is not one outline", "masks that are not one outline"] += 1


def _add(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text
