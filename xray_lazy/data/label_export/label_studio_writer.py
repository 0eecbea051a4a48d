"""Label Studio: all images in one `tasks.json`, with annotations or a model's predictions; and a project's config."""

import json
from collections.abc import Iterator
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from xray_lazy.data.convert.label import Instance
from xray_lazy.data.convert.label_studio import CONFIG, CROWD, SHAPES
from xray_lazy.data.convert.label_studio_runs import encode_brush
from xray_lazy.data.label_export.labelled_image import IMAGE_FOLDER, LabelledImage, Labels, bitmap_of


def write_label_studio(labels: Labels) -> Iterator[tuple[str, str]]:
    """Everything that COCO has, and scores. The images are local files of the folder that is written."""
    tasks = []
    for id, image in enumerate(labels.images, start=1):
        task: dict = {"id": id, "data": {"image": f"/data/local-files/?d={quote(f'{IMAGE_FOLDER}/{image.name}')}"}}
        regions = list(_regions(image))
        if labels.are_predictions:
            scores = [instance.score for instance in image.instances if instance.score is not None]
            task["predictions"] = [{"model_version": "xray-lazy", "score": max(scores, default=0), "result": regions}]
        else:
            task["annotations"] = [{"result": regions}]
        tasks.append(task)
    yield "tasks.json", f"{json.dumps(tasks, ensure_ascii=False, indent=1)}\n"
    yield CONFIG, _config(labels)


def _config(labels: Labels) -> str:
    view = Element("View")
    SubElement(view, "Image", name="image", value="$image")
    for control in ("RectangleLabels", "PolygonLabels", "BrushLabels"):
        node = SubElement(view, control, name=SHAPES[control.lower()], toName="image")
        for name in labels.classes:
            SubElement(node, "Label", value=name)
    indent(view)
    return f"{tostring(view, encoding='unicode')}\n"


def _regions(image: LabelledImage) -> Iterator[dict]:
    width, height = image.size
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    for number, instance in enumerate(image.instances, start=1):
        for part, (kind, value) in enumerate(_parts(instance, image)):
            region = {"id": f"item{number}" + (f"part{part + 1}" if part else ""), "type": kind, **common}
            region |= {"from_name": SHAPES[kind], "value": {**value, kind: [instance.class_name]}}
            if part:
                region["parentID"] = f"item{number}"
            if instance.score is not None:
                region["score"] = instance.score
            if instance.is_crowd:
                region["meta"] = {"text": [CROWD]}
            yield region


def _parts(instance: Instance, image: LabelledImage) -> Iterator[tuple[str, dict]]:
    if not instance.mask:
        x, y, width, height = _percent(instance.box or [0, 0, 0, 0], image)
        yield "rectanglelabels", {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    elif isinstance(instance.mask, list):
        for part in instance.mask:
            values = _percent(part, image)
            points = [list(point) for point in zip(values[0::2], values[1::2], strict=True)]
            yield "polygonlabels", {"points": points, "closed": True}
    else:
        yield "brushlabels", {"format": "rle", "rle": encode_brush(bitmap_of(instance.mask, image.size))}


def _percent(pixels: list[float], image: LabelledImage) -> list[float]:
    return [100 * value / image.size[i % 2] for i, value in enumerate(pixels)]
