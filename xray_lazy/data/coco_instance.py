"""One annotation of a COCO file as detectron2 has it; masks that pycocotools can't draw are refused."""

import math
import re
from typing import Any

# COCO's form of run lengths: pycocotools reads past the end of a text whose last number says "more to come".
WHOLE_TEXT = re.compile("[0-o]*[0-O]")
# Of the run lengths of an empty mask: one number of up to 7 characters, and zeros.
_SHORT_TEXT = 16
# A polygon of as many pixels is not looked at whether it has any.
_SURE_AREA = 4.0


def read_instance(annotation: dict, category: int) -> tuple[dict | None, bool]:
    """The instance, or None where it has no box of some area, and whether its mask is as the file has it.

    Parts of a mask that are no outlines are left out of it. Where the file has no area it is None, see `fill_areas`.

    Raises:
        ValueError: its mask can't be drawn.
    """
    from detectron2.structures import BoxMode

    from xray_lazy.data.check.values import crowd_value

    box = [float(value) for value in annotation.get("bbox") or ()]
    if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
        return None, True
    area = _area(annotation.get("area"))
    instance = {
        "id": annotation["id"],
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category,
        "iscrowd": crowd_value(annotation.get("iscrowd")),
        "area": area if 0 < area < math.inf else None,
    }
    if (degree := _occlusion(annotation)) is not None:
        instance["occlusion"] = degree
    given = annotation.get("segmentation") or []
    outlines = [part for part in given if _is_outline(part)] if isinstance(given, list) else given
    if outlines or isinstance(given, str):
        _refuse_broken(outlines, annotation["id"])
        instance["segmentation"] = _compressed(outlines) if isinstance(outlines, dict) else outlines
    return instance, len(outlines) == len(given)


def _area(value: Any) -> float:
    """0 where it is no number, as a missing one."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _occlusion(annotation: dict) -> int | float | str | None:
    """How much an item is covered, where the annotation says so: itself, or among CVAT's attributes."""
    attributes = annotation.get("attributes")
    for place in (annotation, attributes if isinstance(attributes, dict) else {}):
        for name in ("occlusion", "occluded"):
            if isinstance(place.get(name), int | float | str):
                return place[name]
    return None


def fill_areas(record: dict) -> None:
    """Give the instances of a dataset dict that have no area that of their mask, else of their box, as repair does."""
    from xray_lazy.data.check.masks import mask_area

    for instance in record["annotations"]:
        if instance["area"] is None:
            mask, (_, _, width, height) = instance.get("segmentation"), instance["bbox"]
            drawn = mask_area(mask, (record["width"], record["height"])) if mask else 0
            instance["area"] = drawn or width * height


def drop_empty_masks(record: dict) -> list[int | str]:
    """Leave an instance of a dataset dict without a mask where no pixel of the image is in it; ids of these."""
    frame = record["width"], record["height"]
    empty = [one for one in record["annotations"] if "segmentation" in one and _is_empty(one["segmentation"], frame)]
    for instance in empty:
        del instance["segmentation"]
    return [instance["id"] for instance in empty]


def _is_empty(mask: list | dict, frame: tuple[int, int]) -> bool:
    from xray_lazy.data.check.masks import mask_area, outline_area, part_fault, rle_fault

    if isinstance(mask, dict):
        # one run alone is short, and to read all texts takes long
        return len(mask["counts"]) <= _SHORT_TEXT and rle_fault(mask, None) == ("rle_empty", "")
    if any(outline_area(part) >= _SURE_AREA and part_fault(part, frame) is None for part in mask):
        return False
    return not mask_area(mask, frame)


def refuse_other_sizes(record: dict) -> None:
    """RLEs of another size than the image lie nowhere in it.

    Raises:
        ValueError: the dataset dict has one.
    """
    size = [record["height"], record["width"]]
    for instance in record["annotations"]:
        mask = instance.get("segmentation")
        if isinstance(mask, dict) and mask["size"] != size:
            height, width = mask["size"]
            image = f"image {record['image_id']} of {size[1]}x{size[0]}"
            raise ValueError(f"the mask of annotation {instance['id']}: an RLE of {width}x{height} in {image}")


def _is_outline(part: object) -> bool:
    """Whether a part of a mask has the form of a polygon; lists of points and of polygons in it have another one."""
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and not isinstance(part[0], list | dict)


def _refuse_broken(segmentation: list | dict, annotation_id: int | str) -> None:
    """pycocotools draws what it is given: such masks are random, fill the memory or end the process."""
    if fault := mask_fault(segmentation):
        raise ValueError(f"the mask of annotation {annotation_id}: {fault}")


def mask_fault(segmentation: Any) -> str:
    """Why a mask of a file can't be drawn, or nothing.

    Whether the runs of a text add up is seen when it is drawn: to read all of them here takes longer than all else.
    """
    from xray_lazy.data.check.masks import rle_fault, rle_size
    from xray_lazy.data.check.values import are_coordinates

    if isinstance(segmentation, list):
        drawable = all(isinstance(part, list) and are_coordinates(part) for part in segmentation)
        return "" if drawable else "something else than finite numbers"
    if not isinstance(segmentation, dict):
        return f"a {type(segmentation).__name__}, neither polygons nor RLE"
    counts = segmentation.get("counts")
    if rle_size(segmentation) and isinstance(counts, str) and WHOLE_TEXT.fullmatch(counts):
        return ""
    kind, why = rle_fault(segmentation, None) or ("", "")
    return why if kind == "rle_invalid" else ""


def _compressed(rle: dict) -> dict:
    # the report on an environment names data sets also where pycocotools is missing
    from xray_lazy.data.masks.run_lengths import compressed

    return compressed(rle)
