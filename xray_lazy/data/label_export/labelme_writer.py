"""labelme: a JSON file beside each image. Parts of a mask are polygons of one `group_id`; RLEs are bit masks."""

import base64
import json
from collections.abc import Iterator

import cv2
import numpy as np

from xray_lazy.data.convert.label import Instance
from xray_lazy.data.convert.labelme import CROWD
from xray_lazy.data.label_export.labelled_image import LabelledImage, Labels, bitmap_of
from xray_lazy.data.label_export.voc_writer import class_list

_VERSION = "5.5.0"


def write_labelme(labels: Labels) -> Iterator[tuple[str, str]]:
    """Everything that COCO has, and scores."""
    for image in labels.images:
        width, height = image.size
        content = {"version": _VERSION, "flags": {}, "shapes": list(_shapes(image))}
        content |= {"imagePath": labels.image_places[image.name], "imageData": None}
        content |= {"imageHeight": height, "imageWidth": width}
        text = json.dumps(content, ensure_ascii=False, indent=2)
        yield str(image.path.with_suffix(".json")), f"{text}\n"
    yield "classes.txt", class_list(labels)


def _shapes(image: LabelledImage) -> Iterator[dict]:
    for group, instance in enumerate(image.instances, start=1):
        parts = list(_parts(instance, image))
        for part in parts:
            flags = {CROWD: True} if instance.is_crowd else {}
            shape = {"label": instance.class_name, "group_id": group if len(parts) > 1 else None, "flags": flags}
            shape |= {"description": "", "mask": None, **part}
            if instance.score is not None:  # labelme keeps what it doesn't know, and shows the description
                shape |= {"score": instance.score, "description": f"score {instance.score:.3f}"}
            yield shape


def _parts(instance: Instance, image: LabelledImage) -> Iterator[dict]:
    if not instance.mask:
        x, y, width, height = instance.box or (0, 0, 0, 0)
        yield {"shape_type": "rectangle", "points": [[x, y], [x + width, y + height]]}
    elif isinstance(instance.mask, list):
        for part in instance.mask:
            yield {"shape_type": "polygon", "points": np.reshape(part, (-1, 2)).tolist()}
    else:
        bitmap = bitmap_of(instance.mask, image.size)
        x, y, width, height = cv2.boundingRect(bitmap)
        png = cv2.imencode(".png", bitmap[y : y + height, x : x + width])[1]
        corners = [[x, y], [x + width - 1, y + height - 1]]
        yield {"shape_type": "mask", "points": corners, "mask": base64.b64encode(png.tobytes()).decode()}
