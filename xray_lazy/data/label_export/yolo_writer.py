"""YOLO: a text file for each image, below `labels/` as the images are below `images/`, and a `data.yaml`."""

from collections.abc import Iterator

import numpy as np

from xray_lazy.data.check.shapes import clip_box
from xray_lazy.data.convert.label import Instance
from xray_lazy.data.label_export.labelled_image import IMAGE_FOLDER, LabelledImage, Labels, bitmap_of, box_of


def write_boxes(labels: Labels) -> Iterator[tuple[str, str]]:
    """For detection: `class x_center y_center width height`."""
    yield from _files(labels, lambda instance, image: _box(instance, image, labels))


def write_segments(labels: Labels) -> Iterator[tuple[str, str]]:
    """For segmentation: `class x1 y1 x2 y2 ...`, one outline for each item."""
    yield from _files(labels, lambda instance, image: _outline(instance, image, labels))


def _files(labels: Labels, numbers_of) -> Iterator[tuple[str, str]]:
    import yaml

    labels.lose_scores()
    index = {name: number for number, name in enumerate(labels.classes)}
    for image in labels.images:
        lines = [
            " ".join([str(index[instance.class_name]), *(f"{value:.9g}" for value in numbers_of(instance, image))])
            for instance in labels.kept(image)
        ]
        yield f"labels/{image.path.with_suffix('.txt')}", "".join(f"{line}\n" for line in lines)
    content = {"train": IMAGE_FOLDER, "val": IMAGE_FOLDER, "names": dict(enumerate(labels.classes))}
    yield "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


def _box(instance: Instance, image: LabelledImage, labels: Labels) -> list[float]:
    if instance.mask:
        labels.lost["mask", "masks"] += 1
    return _shares_of_box(instance, image)


def _shares_of_box(instance: Instance, image: LabelledImage) -> list[float]:
    x, y, width, height = clip_box(box_of(instance), image.size)
    return _shares([x + width / 2, y + height / 2, width, height], image)


def _outline(instance: Instance, image: LabelledImage, labels: Labels) -> list[float]:
    if not instance.mask:
        labels.lost["outline of an item that has none (its box is written)", "outlines of items that have none"] += 1
        return _shares_of_box(instance, image)
    mask, holes = instance.mask, 0
    if isinstance(mask, dict):
        mask, holes = _outlines(bitmap_of(mask, image.size))
    if holes:
        labels.lost["hole of a mask", "holes of masks"] += holes
    if len(mask) > 1:
        labels.lost["gap between parts of a mask", "gaps between parts of a mask"] += len(mask) - 1
    return _shares(_joined(mask), image)


def _outlines(bitmap: np.ndarray) -> tuple[list[list[float]], int]:
    """The polygons [x, y, x, y, ...] around the parts of a mask (height, width), and how many holes they fill.

    They go along the edges of its pixels, so that drawing them gives the same bitmap.
    """
    import shapely

    padded = np.pad(bitmap.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    area = shapely.union_all(shapely.box(starts, rows, ends, rows + 1))
    parts = [part for part in shapely.get_parts(area) if part.area]
    rings = [shapely.simplify(part.exterior, 0) for part in parts]
    holes = sum(len(part.interiors) for part in parts)
    return [[float(value) for point in ring.coords[:-1] for value in point] for ring in rings], holes


def _joined(parts: list[list[float]]) -> list[float]:
    """One outline of several: there and back between the first points of the parts, as Ultralytics joins them."""
    first, *others = parts
    there_and_back = [value for part in others for value in (*part, *part[:2], *first[:2])]
    return [*first, *(first[:2] if others else ()), *there_and_back]


def _shares(pixels: list[float], image: LabelledImage) -> list[float]:
    return [min(max(value / image.size[i % 2], 0), 1) for i, value in enumerate(pixels)]
