"""What a format's reader makes of one label file, and how it tells of faults."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from xray_lazy.data.check.masks import mask_area, mask_box, outline_area, part_fault
from xray_lazy.data.check.values import are_coordinates, as_whole
from xray_lazy.data.image_files.image_file import MOST_PIXELS
from xray_lazy.errors import UserError

MOST_SHOWN = 20


@dataclass(frozen=True)
class Instance:
    """One object in an image.

    Attributes:
        class_name: its class.
        box: [x, y, width, height] in pixels, or None where the mask tells it.
        mask: polygons [[x1, y1, x2, y2, ...], ...], an RLE, or None.
        is_crowd: whether it is a region of several objects.
        score: of a prediction.
    """

    class_name: str
    box: list[float] | None = None
    mask: list[list[float]] | dict | None = None
    is_crowd: bool = False
    score: float | None = None


@dataclass(frozen=True)
class Label:
    """What a label file has for one image.

    Attributes:
        path: the file.
        instances: its instances, once the (width, height) of the image is known.
        picture_name: which image it says it is for, if it does.
        size: the (width, height) of the image as it states it, if it does.
        has_image: whether the image itself is inside the file.
        place: the path of its image below the folder of the images, where the file is for several.
        is_unlabelled: whether nobody has labelled the image, so that it is no clean bag.
    """

    path: Path
    instances: Callable[[tuple[int, int]], list[Instance]]
    picture_name: str | None = None
    size: tuple[int, int] | None = None
    has_image: bool = False
    place: str | None = None
    is_unlabelled: bool = False


class LongRow(NamedTuple):
    """The kind of a YOLO line with more numbers than a box has.

    Attributes:
        numbers: how many.
        may_be_pose: whether they may be a box with key points in it.
        is_far: whether the box's width and height would be far from the other points of a polygon.
    """

    numbers: int
    may_be_pose: bool
    is_far: bool


@dataclass
class Reading:
    """What all label files of a conversion are read with, and what is noted meanwhile.

    Attributes:
        classes: the names in their order where it is given, else None.
        zero_based: whether VOC's pixels are counted from 0, the far edges exclusive.
        faults: what is wrong, one line each.
        match_by: whether the "name" of a label or the image "stated" inside counts, where they differ.
        keypoints: how many numbers for key points are behind each YOLO box, None where that isn't stated.
        long_rows: how many YOLO lines with more than a box there are, by `LongRow`.
        left_out: how many things that are no box and no mask were passed over, by the kind's name for one and several.
        scaled: the labels that state their image in another scale, with both sizes.
        declared: the names of classes in their order, as label files list them.
    """

    classes: tuple[str, ...] | None = None
    zero_based: bool = False
    match_by: str | None = None
    keypoints: int | None = None
    long_rows: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    scaled: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)

    @property
    def oriented(self) -> int:
        """How many YOLO lines are oriented boxes: those of four corners, where there are no other polygons."""
        return self.long_rows.total() if {row.numbers for row in self.long_rows} == {8} else 0

    def fault(self, where: object, what: str) -> None:
        """Note that something in a file is wrong."""
        self.faults.append(f"{where}: {what}")

    def declare(self, names: Iterable[str]) -> None:
        """Note the names of classes in their order, those that are new."""
        self.declared = list(dict.fromkeys([*self.declared, *filter(None, names)]))

    def knows_class(self, where: object, name: str) -> bool:
        """Whether a class may be used; if not, the fault is noted."""
        if self.classes is None or name in self.classes:
            return True
        self.fault(where, f"class {name!r} is not among the given classes {', '.join(self.classes)}")
        return False

    def raise_faults(self) -> None:
        """End here if there are faults.

        Raises:
            UserError: all of them, up to a limit.
        """
        if self.faults:
            shown = self.faults[:MOST_SHOWN]
            more = len(self.faults) - len(shown)
            lines = [*shown, f"... and {more} more"] if more else shown
            count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
            raise UserError(
                "\n  ".join([f"{count} in the labels", *lines]), "correct or delete these, then convert again"
            )


def merged_parts(parts: list[Instance], size: tuple[int, int]) -> list[Instance]:
    """One instance of all masks that are parts of one, in an image of this (width, height); boxes are left apart."""
    from xray_lazy.data.masks.run_lengths import encode_polygons, union

    boxes = [part for part in parts if part.mask is None]
    masks = [part.mask for part in parts if part.mask is not None]
    if len(masks) < 2:
        return parts
    polygons = [polygon for mask in masks if isinstance(mask, list) for polygon in mask]
    merged: list | dict = polygons
    if rles := [mask for mask in masks if isinstance(mask, dict)]:
        merged = union([*rles, *([encode_polygons(polygons, size[1], size[0])] if polygons else ())])
    first = next(part for part in parts if part.mask is not None)
    return [*boxes, replace(first, box=None, mask=merged)]


def as_coordinates(values: Iterable[Any]) -> list[float]:
    """Numbers, or texts of them, as coordinates in pixels or percent.

    Raises:
        ValueError: one is no number, not finite, or larger than any image.
    """
    numbers = [float(value) for value in values]
    if not are_coordinates(numbers):
        raise ValueError(f"{', '.join(f'{number:g}' for number in numbers[:4])}: no coordinates in an image")
    return numbers


def stated_size(width: object, height: object) -> tuple[int, int] | None:
    """The size that a label states, or None where it is missing, 0 (as some tools write it) or no whole number.

    Raises:
        ValueError: no image has it; a mask of such a size would fill the memory.
    """
    wide, high = as_whole(width), as_whole(height)
    if wide and high and wide * high > MOST_PIXELS:
        raise ValueError(f"an image of {wide}x{high}, larger than any that can be read")
    return (wide, high) if wide and high and min(wide, high) > 0 else None


def coco_shape(instance: Instance, size: tuple[int, int]) -> dict:
    """Box, area and mask of an instance as an annotation has them, in an image of this (width, height)."""
    mask = instance.mask
    if not mask:
        box = _rounded(instance.box or [])
        return {"bbox": box, "area": round(box[2] * box[3], 3), "segmentation": []}
    if isinstance(mask, list):
        mask = [_rounded(part) for part in mask]
    box = _rounded(instance.box) if instance.box else mask_box(mask)
    if isinstance(mask, dict) or (len(mask) > 1 and not any(part_fault(part, size) for part in mask)):
        area = mask_area(mask, size)
    else:
        area = sum(outline_area(part) for part in mask)
    return {"bbox": box, "area": round(area, 3), "segmentation": mask}


def _rounded(values: list[float]) -> list[float]:
    # three decimals are plenty for pixels and keep the file small
    return [round(float(value), 3) for value in values]


def scaled_instance(instance: Instance, old: tuple[int, int], new: tuple[int, int]) -> Instance:
    """An instance in an image of size `old`, both (width, height), as it is in the same image of size `new`."""

    def scaled(values: list[float]) -> list[float]:
        return [value * new[i % 2] / old[i % 2] for i, value in enumerate(values)]

    mask = instance.mask
    if isinstance(mask, dict):
        mask = _scaled_run_lengths(mask, new)
    elif mask:
        mask = [scaled(part) for part in mask]
    return replace(instance, box=instance.box and scaled(instance.box), mask=mask)


def _scaled_run_lengths(rle: dict, size: tuple[int, int]) -> dict:
    import cv2
    from pycocotools import mask as coco_mask

    from xray_lazy.data.masks.run_lengths import encode

    return encode(cv2.resize(coco_mask.decode(rle), size, interpolation=cv2.INTER_NEAREST_EXACT))
