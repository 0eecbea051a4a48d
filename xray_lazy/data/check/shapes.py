"""One annotation's mask, box and area: what is wrong with each, and what they should be."""

from typing import Any, NamedTuple

from xray_lazy.data.check.mask_forms import in_coco_form
from xray_lazy.data.check.masks import (
    EDGE_TOLERANCE,
    Frame,
    clip_polygon,
    mask_area,
    mask_box,
    outline_area,
    part_fault,
    rle_fault,
    span_fault,
)
from xray_lazy.data.check.values import are_coordinates, is_finite
from xray_lazy.utils.wording import counted

# A box side of less than this many pixels is none.
SMALLEST_SIDE = 1e-3
# How far a box may be from its mask's: pixels, and share of the mask's larger side.
BOX_TOLERANCE = 2.0, 0.02
# Below this intersection over union it is a guess whether box or mask is right: below the first one always, below the
# second one unless the mask lies inside a box that is merely too large.
HARDLY_OVERLAPPING = 0.1, 0.15
# How far an area may be off: share of it. Half the outline is added, which is what pixel conventions differ by.
AREA_TOLERANCE = 0.05

Fault = tuple[str, str, str]  # kind, detail, change


class Shape(NamedTuple):
    """An examined annotation.

    Attributes:
        annotation: what repair leaves of it, or None where nothing usable remains.
        faults: what was found.
        is_box_only: it came without a mask.
    """

    annotation: dict | None
    faults: list[Fault]
    is_box_only: bool


def examine_shape(annotation: dict, frame: Frame) -> Shape:
    """Look at `segmentation`, `bbox` and `area` in an image of size `frame`."""
    given = annotation.get("segmentation")
    mask, faults = examine_mask(given, frame)
    mask_changed = bool(faults) and mask is not given
    updates: dict[str, Any] = {"segmentation": mask or []} if mask_changed else {}
    outline = None if mask is None or _is_unusable(mask, faults) else mask
    own_box = mask_box(outline) if outline else None
    if own_box and _is_conflict(annotation.get("bbox"), own_box, frame):
        detail = f"box {_numbers(annotation['bbox'])}, mask {_numbers(own_box)}"
        faults.append(("box_mask_conflict", detail, ""))
        fault, area = _examine_area(annotation.get("area"), outline, own_box, frame)
        if fault and fault[0] == "area_missing":
            updates["area"] = area
            faults.append((*fault, f"area {area:g}"))
        return Shape({**annotation, **updates}, faults, False)
    follows = []  # values that only follow a repair before them: no faults of their own, but told as changes

    box, fault = _examine_box(annotation.get("bbox"), own_box, frame)
    if box is None:
        return Shape(None, [*faults, (*fault, "annotation dropped")] if fault else faults, False)
    if fault:
        updates["bbox"] = box
        if mask_changed and fault[0] == "box_differs":
            follows.append(f"bbox {_numbers(box)}")
        else:
            faults.append((*fault, f"bbox {_numbers(box)}"))
    fault, area = _examine_area(annotation.get("area"), outline, box, frame)
    if fault:
        measure_changed = mask_changed or (outline is None and "bbox" in updates)
        updates["area"] = area
        if measure_changed and fault[0] == "area_differs":
            follows.append(f"area {area:g}")
        else:
            faults.append((*fault, f"area {area:g}"))
    if follows:
        kind, detail, change = faults[-1]
        faults[-1] = (kind, detail, ", ".join([change, *follows]))
    return Shape({**annotation, **updates} if updates else annotation, faults, not given)


def _is_unusable(mask: list | dict, faults: list[Fault]) -> bool:
    """Whether the mask stays although nothing can be computed from it: an RLE of another size."""
    return isinstance(mask, dict) and any(kind == "rle_size" for kind, _, _ in faults)


def examine_mask(mask: object, frame: Frame) -> tuple[list | dict | None, list[Fault]]:
    """The mask that repair leaves (the given object itself where it changes nothing, None for none) and its faults."""
    if mask is None or mask == [] or mask == {}:
        return None, []
    given, mask = mask, in_coco_form(mask)
    faults = [] if mask is given else [_form_fault(given)]
    if isinstance(mask, dict):
        fault = rle_fault(mask, frame)
        if fault and fault[0] != "rle_size":
            return None, [(*fault, "mask dropped")]
        return mask, [*faults, (*fault, "")] if fault else faults
    if not isinstance(mask, list):
        return None, [("mask_malformed", f"a {type(mask).__name__}", "mask dropped")]
    parts, part_faults = _examine_parts(mask, frame)
    return (parts or None, faults + part_faults) if part_faults else (mask, faults)


def _form_fault(given: object) -> Fault:
    """Of a mask that is rewritten."""
    if isinstance(given, dict):
        return "number_as_text", "size or counts of an RLE", "numbers"
    if isinstance(given, list) and are_coordinates(given):
        return "polygon_flat", counted(len(given), "number"), "wrapped"
    text = str(given)
    return "polygon_nested", text if len(text) <= 60 else f"{text[:57]}...", "rewritten"


def _examine_parts(parts: list, frame: Frame) -> tuple[list, list[Fault]]:
    kept, faults = [], []
    for number, part in enumerate(parts, start=1):
        fault = part_fault(part, frame)
        if fault is None:
            kept.append(part)
            continue
        kind, detail = fault
        detail = f"part {number} of {len(parts)}: {detail}" if len(parts) > 1 else detail
        clipped = clip_polygon(part, frame) if frame and kind == "polygon_beyond" else []
        if clipped and part_fault(clipped, frame) is None:
            kept.append(clipped)
            faults.append((kind, detail, "clipped"))
        else:
            faults.append((kind, detail, f"part {number} dropped"))
    return kept, faults


def _examine_box(box: Any, own: list[float] | None, frame: Frame) -> tuple[list | None, tuple[str, str] | None]:
    """The box that repair leaves (the given one where it is right, None for none) and its fault.

    Args:
        own: the box of the mask, where there is one.
    """
    fault = _box_fault(box, frame)
    if fault is None and own and not _is_near(box, own):
        fault = "box_differs", f"{_numbers(box)}, mask {_numbers(own)}"
    if fault is None:
        return box, None
    if own:
        return own, fault
    return (clip_box(box, frame) if frame and fault[0] == "box_beyond" else None), fault


def _box_fault(box: Any, frame: Frame) -> tuple[str, str] | None:
    if box is None or box == []:
        return "box_missing", ""
    if not isinstance(box, list) or len(box) != 4 or not are_coordinates(box):
        return "box_malformed", str(box)[:60]
    x, y, width, height = box
    if width < SMALLEST_SIDE or height < SMALLEST_SIDE:
        return "box_empty", _numbers(box)
    return span_fault("box", (x, y, x + width, y + height), frame)


def _is_conflict(box: Any, own: list[float], frame: Frame) -> bool:
    """Whether a box that may well be right hardly overlaps with that of its mask."""
    if _box_fault(box, frame) or _is_near(box, own):
        return False
    sides = [min(box[i] + box[i + 2], own[i] + own[i + 2]) - max(box[i], own[i]) for i in (0, 1)]
    intersection = max(sides[0], 0) * max(sides[1], 0)
    mask_area = own[2] * own[3]
    overlap = intersection / (box[2] * box[3] + mask_area - intersection)
    always, unless_inside = HARDLY_OVERLAPPING
    return overlap < always or (overlap < unless_inside and intersection < 0.9 * mask_area)


def _is_near(box: list, own: list[float]) -> bool:
    pixels, share = BOX_TOLERANCE
    tolerance = pixels + share * max(own[2:])
    ends = (box[0] + box[2] - own[0] - own[2], box[1] + box[3] - own[1] - own[3])
    return all(abs(d) <= tolerance for d in (box[0] - own[0], box[1] - own[1], *ends))


def clip_box(box: list, frame: tuple[int, int]) -> list:
    """A box [x, y, width, height] without what is beyond the image of this (width, height)."""
    left, top = max(box[0], 0), max(box[1], 0)
    right, bottom = min(box[0] + box[2], frame[0]), min(box[1] + box[3], frame[1])
    return [left, top, round(right - left, 3) or right - left, round(bottom - top, 3) or bottom - top]


def _examine_area(area: Any, mask: list | dict | None, box: list, frame: Frame) -> tuple[tuple[str, str] | None, float]:
    """The fault of the area and the right one; the mask is drawn only where the outline's area doesn't settle it."""
    missing = not is_finite(area) or area < 0
    slack = EDGE_TOLERANCE * (box[2] + box[3])

    def agrees(true: float) -> bool:
        return not missing and abs(area - true) <= AREA_TOLERANCE * true + slack

    if mask is None:
        # an area without its mask may still be that of the object, which is less than the box's
        true = box[2] * box[3]
        good = not missing and 0 < area <= true * (1 + AREA_TOLERANCE) + slack
        what = "box"
    else:
        if isinstance(mask, list) and len(mask) == 1 and agrees(outline_area(mask[0])):
            return None, area
        true, what = mask_area(mask, frame), "mask"
        good = agrees(true)
    if good:
        return None, area
    true = round(true, 3) or true
    if missing:
        return ("area_missing", f"area {area!r}"), true
    return ("area_differs", f"area {area:g}, {what} {true:g}"), true


def _numbers(box: list) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
