"""In which form a set gives its boxes: COCO's, or one of those that look like it, which only the whole set tells."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from xray_lazy.data.check.masks import EDGE_TOLERANCE, mask_box
from xray_lazy.data.check.values import are_coordinates

Box = Sequence[float]

FEWEST_BOXES = 3
# of boxes that must fit a form; a set may have some faulty ones, too
MOST = 0.95
# of boxes that don't fit as COCO's; centers, which fit most boxes of items in the middle, need more
SOME, SOME_FOR_CENTERS = 0.05, 0.2
NEAR_SHARE = 0.1  # how far a box may be from its mask's, of the mask's larger side


class _Form(NamedTuple):
    """How four numbers are meant."""

    name: str
    is_share: bool  # of the image, not pixels
    to_coco: str


FORMS = (
    _Form("corners [x1, y1, x2, y2]", False, "[x1, y1, x2 - x1, y2 - y1]"),
    _Form("center and size [cx, cy, width, height]", False, "[cx - width / 2, cy - height / 2, width, height]"),
    _Form("shares of the image [x, y, width, height]", True, "each times the image's width or height"),
    _Form("shares of the image [x1, y1, x2, y2]", True, "corners times the image's size, then [x, y, width, height]"),
    _Form("shares of the image [cx, cy, width, height]", True, "as YOLO's labels: `tools/dataset.py convert yolo`"),
)
_CORNERS = {
    FORMS[0].name: lambda a, b, c, d: (a, b, c, d),
    FORMS[1].name: lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    FORMS[2].name: lambda a, b, c, d: (a, b, a + c, b + d),
    FORMS[3].name: lambda a, b, c, d: (a, b, c, d),
    FORMS[4].name: lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
}


def find_box_form(instances: Iterable[tuple[dict, tuple[float, float] | None]]) -> tuple[str, str] | None:
    """How a set's boxes are given, if not as COCO's [x, y, width, height] in pixels.

    Args:
        instances: annotations, with width and height of their image; None where that is not known.

    Returns:
        the form with what tells it, and how to write it as COCO does; None for COCO's, and where it can't be told.
    """
    known = [
        (annotation["bbox"], frame, _own_box(annotation))
        for annotation, frame in instances
        if isinstance(annotation.get("bbox"), list)
        and len(annotation["bbox"]) == 4
        and are_coordinates(annotation["bbox"])
        and frame is not None
        and min(frame) > 2
    ]
    if len(known) < FEWEST_BOXES:
        return None
    shares = all(0 <= value <= 1 for box, _, _ in known for value in box) and any(
        0 < value < 1 for box, _, _ in known for value in box
    )
    wrong = [box for box, frame, own in known if not _fits(_as_coco(box), frame, own)]
    if not shares and len(wrong) < max(2, SOME * len(known)):
        return None
    for form in FORMS:
        if form.is_share != shares or (form is FORMS[1] and len(wrong) < SOME_FOR_CENTERS * len(known)):
            continue
        fitting = sum(_fits(_scaled(_CORNERS[form.name](*box), form, frame), frame, own) for box, frame, own in known)
        if fitting >= MOST * len(known):
            told = "all are between 0 and 1" if shares else f"{len(wrong)} of {len(known)} are none as COCO's boxes"
            return f"{form.name}: {told}", form.to_coco
    return None


def _as_coco(box: Box) -> tuple[float, ...]:
    x, y, width, height = box
    return x, y, x + width, y + height


def _scaled(corners: tuple[float, ...], form: _Form, frame: tuple[float, float]) -> tuple[float, ...]:
    if not form.is_share:
        return corners
    return tuple(value * side for value, side in zip(corners, frame * 2, strict=True))


def _fits(corners: tuple[float, ...], frame: tuple[float, float], own: Box | None) -> bool:
    """Whether a box lies in its image, and about where its mask is."""
    left, top, right, bottom = corners
    slack = EDGE_TOLERANCE + 0.01 * max(frame)
    if not (left < right and top < bottom and left >= -slack and top >= -slack):
        return False
    if right > frame[0] + slack or bottom > frame[1] + slack:
        return False
    if own is None:
        return True
    near = 2 + NEAR_SHARE * max(own[2:])
    ends = (own[0], own[1], own[0] + own[2], own[1] + own[3])
    return all(abs(one - other) <= near for one, other in zip(corners, ends, strict=True))


def _own_box(annotation: dict) -> Box | None:
    """Of the annotation's polygons."""
    parts = annotation.get("segmentation")
    if not isinstance(parts, list) or not parts or not all(isinstance(p, list) and are_coordinates(p) for p in parts):
        return None
    if any(len(part) < 6 or len(part) % 2 for part in parts):
        return None
    return mask_box(parts)
