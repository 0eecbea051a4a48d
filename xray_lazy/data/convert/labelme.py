"""labelme: one JSON file per image with polygons, rectangles, circles and bit masks.

Shapes of one label and `group_id` are one instance. A rectangle is a box: alone, it gives no mask, as its outline is
not the object's.
"""

import base64
import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_lazy.data.check.values import are_coordinates
from xray_lazy.data.convert.label import Instance, Label, Reading, stated_size
from xray_lazy.data.convert.turned_shapes import ellipse
from xray_lazy.utils.wording import AS_UTF_8, counted, not_utf_8

if TYPE_CHECKING:
    from PIL import Image

SUFFIX = ".json"
CROWD = "crowd"  # a flag of a shape
WITHOUT_AREA = {
    "point": ("point", "points"),
    "points": ("set of points", "sets of points"),
    "line": ("line", "lines"),
    "linestrip": ("line strip", "line strips"),
}


def open_label(path: Path, reading: Reading) -> Label | None:
    """Read one JSON file; a COCO file that lies among them is passed over."""
    content = read_json(path, reading)
    if content is None:
        return None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        reading.fault(path, "no list `shapes`: not a labelme file")
        return None
    try:
        size = stated_size(content.get("imageWidth"), content.get("imageHeight"))
    except ValueError as error:
        reading.fault(path, str(error))
        return None
    groups: dict[tuple, list[dict]] = {}
    for number, shape in enumerate(shapes):
        if shape == {}:
            reading.left_out["empty shape", "empty shapes"] += 1
        elif _is_usable(f"{path}: shape {number}", shape, reading):
            group = shape.get("group_id")
            groups.setdefault((shape["label"], number if group is None else f"group {group}"), []).append(shape)

    def instances(size: tuple[int, int]) -> list[Instance]:
        return [_instance(label, members, size) for (label, _), members in groups.items()]

    name = content.get("imagePath")
    return Label(path, instances, name if isinstance(name, str) else None, size, bool(content.get("imageData")))


def read_json(path: Path, reading: Reading) -> Any:
    """What a JSON file holds; None for a COCO file, and where it can't be read, which is noted as a fault."""
    try:
        content = json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        reading.fault(path, f"{not_utf_8(error)}: {AS_UTF_8}")
        return None
    except (ValueError, RecursionError) as error:
        reading.fault(f"{path}:{getattr(error, 'lineno', 1)}", f"not valid JSON ({error})")
        return None
    if isinstance(content, dict) and {"images", "categories"} <= content.keys():
        return None
    return {} if content is None else content  # `null` is a fault of the format, which says so


def image_inside(path: Path) -> tuple[bytes, str]:
    """The image that a label file holds, as the bytes of a file and its suffix.

    Raises:
        ValueError: it is none.
    """
    data = _decoded(json.loads(path.read_bytes())["imageData"], "imageData")
    with _opened(data, "imageData") as image:
        kind = (image.format or "").lower()
    return data, {"jpeg": ".jpg", "tiff": ".tif"}.get(kind, f".{kind}")


def _is_usable(where: str, shape: object, reading: Reading) -> bool:
    """Whether a shape is one; if not, the fault is noted."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"]:
        reading.fault(where, "no label")
        return False
    where = f"{where} ({shape['label']})"
    kind = shape.setdefault("shape_type", "polygon")
    if isinstance(kind, str) and kind in WITHOUT_AREA:
        reading.left_out[WITHOUT_AREA[kind]] += 1
        return False
    try:
        _require_points(kind, shape.get("points"))
        if kind == "mask":
            shape["pixels"] = _bit_mask(shape)
    except ValueError as error:
        reading.fault(where, str(error))
        return False
    return reading.knows_class(where, shape["label"])


def _require_points(kind: object, points: object) -> None:
    counts = {"polygon": (3, None), "oriented_rectangle": (4, 4), "rectangle": (2, 4), "circle": (2, 2), "mask": (2, 2)}
    if not isinstance(kind, str) or kind not in counts:
        raise ValueError(f"shape_type {kind!r} is unknown; known are {', '.join(counts)}")
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise ValueError("`points` is not a list of [x, y]")
    least, most = counts[kind]
    if len(points) < least or (most and len(points) > most):
        raise ValueError(f"a {kind} of {counted(len(points), 'point')}")
    if kind == "circle" and points[0] == points[1]:
        raise ValueError("a circle without a radius")


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and are_coordinates(point)


def _bit_mask(shape: dict) -> np.ndarray:
    """(height, width) booleans of a mask shape; its two points are its first and last pixel."""
    with _opened(_decoded(shape.get("mask"), "mask"), "mask") as image:
        pixels = np.asarray(image.convert("L")) > 0
    (left, top), (right, bottom) = ((round(x), round(y)) for x, y in shape["points"])
    if pixels.shape != (bottom - top + 1, right - left + 1):
        raise ValueError(f"a mask of {pixels.shape[1]}x{pixels.shape[0]} for x {left} to {right}, y {top} to {bottom}")
    return pixels


def _decoded(text: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise ValueError(f"{what} is not in base64") from None


@contextmanager
def _opened(data: bytes, what: str) -> Iterator["Image.Image"]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} is not an image ({error})") from None


def _instance(label: str, shapes: list[dict], size: tuple[int, int]) -> Instance:
    is_crowd = any(isinstance(flags := shape.get("flags"), dict) and flags.get(CROWD) is True for shape in shapes)
    if len(shapes) == 1 and shapes[0]["shape_type"] == "rectangle":
        (left, right), (top, bottom) = _extent(shapes[0]["points"])
        return Instance(label, [left, top, right - left, bottom - top], None, is_crowd)
    polygons = [_polygon(shape) for shape in shapes if shape["shape_type"] != "mask"]
    masks = [shape for shape in shapes if shape["shape_type"] == "mask"]
    return Instance(label, None, _run_lengths(polygons, masks, size) if masks else polygons, is_crowd)


def _polygon(shape: dict) -> list[float]:
    points = shape["points"]
    if shape["shape_type"] == "rectangle":
        (left, right), (top, bottom) = _extent(points)
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif shape["shape_type"] == "circle":
        radius = math.dist(*points)
        return ellipse(points[0], (radius, radius))
    return [float(value) for point in points for value in point]


def _extent(points: list[list[float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return (min(xs), max(xs)), (min(ys), max(ys))


def _run_lengths(polygons: list[list[float]], masks: list[dict], size: tuple[int, int]) -> dict:
    """All shapes of an instance as one RLE of the image's size; what lies outside the image is lost."""
    from xray_lazy.data.masks.run_lengths import encode, encode_polygons, union

    width, height = size
    canvas = np.zeros((height, width), np.uint8, order="F")
    for shape in masks:
        (left, top), _ = ((round(x), round(y)) for x, y in shape["points"])
        pixels = shape["pixels"][max(0, -top) :, max(0, -left) :]
        window = canvas[max(0, top) : max(0, top) + pixels.shape[0], max(0, left) : max(0, left) + pixels.shape[1]]
        window |= pixels[: window.shape[0], : window.shape[1]]
    return union([encode(canvas), *([encode_polygons(polygons, height, width)] if polygons else ())])
