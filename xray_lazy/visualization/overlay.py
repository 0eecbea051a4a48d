"""Draw instances on X-ray images: outlines, translucent fill and labels that leave the items visible."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from pycocotools import mask as mask_util

from xray_lazy.data.check.masks import rle_fault
from xray_lazy.data.image_detections import Drawn, ImageDetections
from xray_lazy.data.masks.run_lengths import as_json, compressed
from xray_lazy.errors import UserError
from xray_lazy.visualization.labels import Label, draw_label, label_size, place_labels

if TYPE_CHECKING:
    from detectron2.structures import Instances

# RGB. X-ray pseudo-colour takes orange, green, blue and white for the materials; these keep away from them.
CLASS_COLOURS = (
    (255, 0, 190),  # magenta
    (255, 235, 0),  # yellow
    (0, 225, 255),  # cyan
    (225, 0, 25),  # red
    (190, 255, 0),  # lime
    (140, 30, 255),  # violet
    (255, 150, 205),  # pink
    (125, 0, 35),  # maroon
    (0, 115, 115),  # teal
    (195, 160, 255),  # lavender
    (150, 255, 220),  # mint
    (95, 0, 105),  # plum
    (255, 105, 95),  # salmon
    (70, 60, 70),  # slate
)
FILL_OPACITY = 0.28
# BGR, of what is behind the objects; materials have no grey.
QUIET_COLOUR = (120, 120, 120)
# A grey ground is lifted so far that a fill shows on metal, too, which is near black.
DARKEST_GREY = 70
# Images whose longer side is below this are enlarged, so that lines and labels stay small beside the items.
COMFORTABLE_SIDE = 700
LARGEST_ENLARGEMENT = 3


def draw_instances(
    image: np.ndarray,
    instances: Sequence[Drawn],
    class_names: Sequence[str],
    enlargement: float | None = None,
    grey: bool = False,
) -> np.ndarray:
    """Draw instances and their labels on a copy of an image.

    Args:
        image: (H, W, 3) BGR or (H, W) grey, uint8.
        class_names: by class id; a class beyond them is labelled by its number.
        enlargement: factor of the result's size; by default 1, or 2 to 3 for small images. Below 1 lines and labels
            still have the size that reads well.
        grey: take the scan's own colours away, so that those of the classes are the only ones.

    Returns:
        (H * enlargement, W * enlargement, 3) BGR, uint8.
    """
    factor = enlargement or _comfortable_enlargement(*image.shape[:2])
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    canvas = resized(grey_background(canvas) if grey else canvas, factor)
    instances = [drawn for drawn in instances if all(map(math.isfinite, drawn.box))]
    text_height = text_height_for(canvas)
    labels = []
    # large ones first: what lies on them stays visible, and their labels, the easiest to place, go last
    for drawn in sorted(instances, key=lambda drawn: (drawn.is_quiet, _box_area(drawn)), reverse=True):
        ends = _draw_shape(canvas, drawn, factor)
        if drawn.is_quiet or drawn.label == "":
            continue
        text, box = _label_text(drawn, class_names), _pixel_box(drawn.box, canvas, factor)
        labels.insert(0, Label(text, class_colour(drawn.class_id), box, label_size(text, text_height), ends))
    for label, corner in zip(labels, place_labels(labels, canvas.shape[1], canvas.shape[0]), strict=True):
        draw_label(canvas, label, corner, text_height)
    return canvas


def grey_background(image: np.ndarray) -> np.ndarray:
    """A BGR image without its colours and with its darks lifted, (H, W, 3) uint8."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    lifted = cv2.LUT(grey, np.linspace(DARKEST_GREY, 255, 256).round().astype(np.uint8))
    return cv2.cvtColor(lifted, cv2.COLOR_GRAY2BGR)


def resized(image: np.ndarray, factor: float) -> np.ndarray:
    """An image times `factor`, of one pixel at least."""
    if factor == 1:
        return image
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def class_colour(class_id: int) -> tuple[int, int, int]:
    """The BGR colour of a class, the same in all images; colours come again after the last."""
    return CLASS_COLOURS[class_id % len(CLASS_COLOURS)][::-1]


def instances_of_record(record: Mapping) -> list[Drawn]:
    """The ground truth of a detectron2 dataset dict."""
    from detectron2.structures import BoxMode

    return [
        Drawn(
            class_id=annotation["category_id"],
            box=tuple(BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)),
            mask=annotation.get("segmentation") or None,
            is_crowd=bool(annotation.get("iscrowd")),
        )
        for annotation in record.get("annotations", ())
    ]


def instances_of_prediction(instances: "Instances", score_threshold: float = 0.0) -> list[Drawn]:
    """The predictions of a detectron2 model for one image, on any device, from `score_threshold` on."""
    return ImageDetections.of(instances[instances.scores >= score_threshold]).drawn()


def text_height_for(image: np.ndarray) -> int:
    """Height of the letters in pixels that reads well at an image's size."""
    return max(12, round(max(image.shape[:2]) / 70))


def _comfortable_enlargement(height: int, width: int) -> int:
    return min(LARGEST_ENLARGEMENT, math.ceil(COMFORTABLE_SIDE / max(height, width, 1)))


def _box_area(drawn: Drawn) -> float:
    x0, y0, x1, y1 = drawn.box
    return (x1 - x0) * (y1 - y0)


def _label_text(drawn: Drawn, class_names: Sequence[str]) -> str:
    if drawn.label is not None:
        return drawn.label
    known = 0 <= drawn.class_id < len(class_names)
    name = class_names[drawn.class_id] if known else f"class {drawn.class_id}"
    if drawn.is_crowd:
        return f"{name} crowd"
    return name if drawn.score is None else f"{name} {drawn.score:.2f}"


def _pixel_box(box: Iterable[float], canvas: np.ndarray, factor: float) -> tuple[int, int, int, int]:
    """The box on the canvas, cut at its border; it keeps at least one pixel."""
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = (value * factor for value in box)
    left, right = (round(min(max(value, 0), width - 1)) for value in (min(x0, x1), max(x0, x1)))
    top, bottom = (round(min(max(value, 0), height - 1)) for value in (min(y0, y1), max(y0, y1)))
    return left, top, right, bottom


def _draw_shape(canvas: np.ndarray, drawn: Drawn, factor: float) -> tuple[int, int] | None:
    """Fill and outline a mask, or outline a box; a thin edge of the opposite brightness sets the line off.

    Returns:
        The columns of a mask's highest and lowest point.
    """
    colour = QUIET_COLOUR if drawn.is_quiet else class_colour(drawn.class_id)
    thickness = 1 if drawn.is_quiet else max(2, round(max(canvas.shape[:2]) / 640))
    edge = (0, 0, 0) if sum(colour) > 300 and not drawn.is_quiet else (255, 255, 255)
    mask = None if drawn.mask is None else canvas_mask(drawn.mask, canvas.shape[:2], factor)
    if mask is None or not mask.any():
        left, top, right, bottom = _pixel_box(drawn.box, canvas, factor)
        for width, ink in ((thickness + 2, edge), (thickness, colour)):
            cv2.rectangle(canvas, (left, top), (right, bottom), ink, width)
        return None
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    x, y, w, h = cv2.boundingRect(mask)
    part, inside = canvas[y : y + h, x : x + w], mask[y : y + h, x : x + w].astype(bool)
    if not drawn.is_quiet:
        part[inside] = (part[inside] * (1 - FILL_OPACITY) + np.array(colour) * FILL_OPACITY).astype(np.uint8)
    for width, ink in ((thickness + 2, edge), (thickness, colour)):
        cv2.drawContours(canvas, contours, -1, ink, width, cv2.LINE_AA)
    return x + int(np.flatnonzero(inside[0]).mean()), x + int(np.flatnonzero(inside[-1]).mean())


def canvas_mask(mask: np.ndarray | list | dict, canvas_size: tuple[int, int], factor: float) -> np.ndarray:
    """A mask in any of the forms of `Drawn.mask` as uint8 (canvas height, canvas width), 0 or 1."""
    if isinstance(mask, list):
        filled = np.zeros(canvas_size, dtype=np.uint8)
        for polygon in mask:
            points = np.asarray(polygon, dtype=np.float64)[: len(polygon) // 2 * 2].reshape(-1, 2)
            if len(points) >= 3:
                # far outside, int32 would overflow; one by one, so that overlapping parts don't cancel out
                points = np.clip(points, -1e5, 1e5) * factor
                cv2.fillPoly(filled, [points.round().astype(np.int32)], 1)
        return filled
    if isinstance(mask, dict):
        rle = as_json(mask)
        kind, why = rle_fault(rle, None) or ("", "")
        if kind == "rle_invalid":  # pycocotools would read past the end of its memory
            raise UserError(f"a mask can't be drawn: {why}", "find it with `tools/dataset.py check`")
        mask = mask_util.decode(compressed(rle))
    mask = np.ascontiguousarray(mask, dtype=np.uint8)
    if mask.shape == tuple(canvas_size):
        return mask
    # from between the pixels, so that an enlarged outline is smooth
    fitted = cv2.resize(mask * 255, canvas_size[::-1], interpolation=cv2.INTER_LINEAR)
    return (fitted > 127).astype(np.uint8)
