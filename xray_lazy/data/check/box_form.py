"""In which form a set gives its boxes: COCO's, or one of those that look like it, which only the whole set tells."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from xray_lazy.data.check.masks import EDGE_TOLERANCE, mask_box
from xray_lazy.data.check.values import are_coordinates

Box = Sequence[float]
Frame = tuple[float, float]

FEWEST_BOXES = 3
# of boxes that must fit a form; a set may have some faulty ones, too
MOST = 0.95
# of boxes that don't fit as COCO's; forms other than corners and shares fit more sets by chance, and need more
SOME, MANY = 0.05, 0.2
# of boxes beyond their image that are no single faults any more, whatever their form, and of how many at least
TOO_MANY, FEWEST_UNKNOWN = 0.5, 10
NEAR_SHARE = 0.1  # how far a box may be from its mask's, of the mask's larger side
# what tells percent that lie inside of all images, too: that many boxes within the first 100 pixels of far larger ones
FEWEST_PERCENT, LARGER = 10, 2
# how far such boxes reach at least, of the whole: else they may be pixels of a larger image
LEAST_REACH = 0.9


class _Layout(NamedTuple):
    """What four numbers are, in which unit whatever."""

    name: str
    corners: Callable[[float, float, float, float], tuple[float, float, float, float]]
    to_coco: str


_COCO = _Layout("[x, y, width, height]", lambda a, b, c, d: (a, b, a + c, b + d), "")
_CORNERS = _Layout("[x1, y1, x2, y2]", lambda a, b, c, d: (a, b, c, d), "[x1, y1, x2 - x1, y2 - y1]")
_CENTERS = _Layout(
    "[cx, cy, width, height]",
    lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    "[cx - width / 2, cy - height / 2, width, height]",
)
_CORNERS_BY_ROW = _Layout("[y1, x1, y2, x2]", lambda a, b, c, d: (b, a, d, c), "[x1, y1, x2 - x1, y2 - y1]")
_BY_ROW = _Layout("[y, x, height, width]", lambda a, b, c, d: (b, a, b + d, a + c), "[x, y, width, height]")
_SWAPPED = "y before x, or width and height of the images swapped"


class _Form(NamedTuple):
    """A layout in a unit.

    Attributes:
        name: how messages call it.
        layout: what the numbers are.
        whole: what the image's width and height are in this unit, None for pixels.
        least: the share of boxes that don't fit as COCO's from which it is tried.
    """

    name: str
    layout: _Layout
    whole: int | None
    least: float

    @property
    def title(self) -> str:
        return f"{self.name} {self.layout.name}"

    @property
    def to_coco(self) -> str:
        if self.whole is None:
            return self.layout.to_coco
        scaled = "each times the image's width or height" + (f" / {self.whole}" if self.whole > 1 else "")
        return f"{scaled}, then {self.layout.to_coco}" if self.layout.to_coco else scaled


FORMS = (
    _Form("corners", _CORNERS, None, SOME),
    _Form("center and size", _CENTERS, None, MANY),
    _Form(_SWAPPED, _BY_ROW, None, MANY),
    _Form(_SWAPPED, _CORNERS_BY_ROW, None, MANY),
    *(
        _Form(f"{unit} of the image", layout, whole, least)
        for unit, whole, least in (("shares", 1, 0), ("percent", 100, MANY), ("thousandths", 1000, MANY))
        for layout in (_COCO, _CORNERS, _CENTERS, _CORNERS_BY_ROW)
    ),
)


class _Known(NamedTuple):
    """A box, its image's size, and the box of its mask where it has one."""

    box: list[float]
    frame: Frame
    own: Box | None


def find_box_form(instances: Iterable[tuple[dict, Frame | None]]) -> tuple[str, str] | None:
    """How a set's boxes are given, if not as COCO's [x, y, width, height] in pixels.

    Args:
        instances: annotations, with width and height of their image; None where that is not known.

    Returns:
        the form with what tells it, and how to write it as COCO does; None for COCO's, and where it can't be told.
    """
    known = [
        _Known(annotation["bbox"], frame, _own_box(annotation))
        for annotation, frame in instances
        if isinstance(annotation.get("bbox"), list)
        and len(annotation["bbox"]) == 4
        and are_coordinates(annotation["bbox"])
        and frame is not None
        and min(frame) > 2
    ]
    if len(known) < FEWEST_BOXES:
        return None
    values = [value for one in known for value in one.box]
    shares = max(values) <= 1 and min(values) >= 0 and any(0 < value < 1 for value in values)
    wrong = sum(not _fits(_COCO.corners(*one.box), one) for one in known)
    percent = not shares and _are_percent(known)
    if not shares and not percent and wrong < max(2, SOME * len(known)):
        return None
    for form in FORMS:
        if shares != (form.whole == 1) or (percent and form.whole != 100):
            continue
        if form.whole and not _fills(form, known):
            continue
        if not percent and wrong < form.least * len(known):
            continue
        if sum(_fits(_in_pixels(one, form), one) for one in known) >= MOST * len(known):
            told = f"all are between 0 and {form.whole}" if form.whole else f"{wrong} of {len(known)} can't be COCO's"
            return f"{form.title}: {told}", form.to_coco
    alone = [one for one in known if one.own is None and min(one.box[2:]) > 0]  # a mask tells what its box should be
    beyond = sum(not _is_inside(_COCO.corners(*one.box), one.frame) for one in alone)
    if len(alone) >= FEWEST_UNKNOWN and beyond > TOO_MANY * len(alone):
        return f"{beyond} of {len(alone)} reach beyond their image", "find out how they are meant, and in which size"
    return None


def _fills(form: _Form, known: Sequence[_Known]) -> bool:
    """Whether boxes may be parts of the whole: none is beyond it, and they reach to its ends unless it is 1."""
    whole = form.whole or 1
    values = [value for one in known for value in one.box]
    if min(values) < 0 or max(values) > whole * (1 + 1e-3):
        return False
    ends = [form.layout.corners(*one.box)[2:] for one in known]
    return whole == 1 or min(map(max, zip(*ends, strict=True))) >= LEAST_REACH * whole


def _are_percent(known: Sequence[_Known]) -> bool:
    """Whether all boxes are within the first 100 pixels of images that are far larger."""
    if len(known) < FEWEST_PERCENT or min(min(one.frame) for one in known) < LARGER * 100:
        return False
    values = [value for one in known for value in one.box]
    in_fractions = any(value != int(value) for value in values)
    return in_fractions and min(values) >= 0 and max(values) <= 100


def _in_pixels(one: _Known, form: _Form) -> tuple[float, ...]:
    corners = form.layout.corners(*one.box)
    if form.whole is None:
        return corners
    return tuple(value * side / form.whole for value, side in zip(corners, one.frame * 2, strict=True))


def _fits(corners: tuple[float, ...], one: _Known) -> bool:
    """Whether a box lies in its image, and about where its mask is."""
    if not _is_inside(corners, one.frame):
        return False
    if one.own is None:
        return True
    x, y, width, height = one.own
    near = 2 + NEAR_SHARE * max(width, height)
    return all(abs(a - b) <= near for a, b in zip(corners, (x, y, x + width, y + height), strict=True))


def _is_inside(corners: tuple[float, ...], frame: Frame) -> bool:
    left, top, right, bottom = corners
    slack = EDGE_TOLERANCE + 0.01 * max(frame)
    return -slack <= left < right <= frame[0] + slack and -slack <= top < bottom <= frame[1] + slack


def _own_box(annotation: dict) -> Box | None:
    """Of the annotation's polygons."""
    parts = annotation.get("segmentation")
    if not isinstance(parts, list) or not parts or not all(isinstance(p, list) and are_coordinates(p) for p in parts):
        return None
    if any(len(part) < 6 or len(part) % 2 for part in parts):
        return None
    return mask_box(parts)
