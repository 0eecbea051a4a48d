"""Boxes that a whole set gives in another form than COCO's are told as such, and none is changed."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_lazy.data.check.box_form import find_box_form
from xray_lazy.data.check.checked_sets import check_sets
from xray_lazy.data.check.coco_set import CocoSet
from xray_lazy.data.repair import repair

WIDTH, HEIGHT = 160, 120
BOXES = [(59, 22, 44, 37), (10, 1, 25, 16), (90, 70, 21, 43), (124, 61, 32, 36), (68, 80, 37, 34), (2, 90, 50, 28)]


def corners(x, y, w, h):
    return [x, y, x + w, y + h]


def centers(x, y, w, h):
    return [x + w / 2, y + h / 2, w, h]


def shares(values):
    return [value / side for value, side in zip(values, (WIDTH, HEIGHT) * 2, strict=True)]


FORMS = {
    "corners [x1, y1, x2, y2]": corners,
    "shares of the image [x, y, width, height]": lambda *box: shares(box),
    "shares of the image [x1, y1, x2, y2]": lambda *box: shares(corners(*box)),
}


def content(boxes, masks=False):
    annotations = []
    for number, (box, (x, y, w, h)) in enumerate(zip(boxes, BOXES, strict=True), start=1):
        outline = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotation = {"id": number, "image_id": 1, "category_id": 1, "bbox": list(box), "iscrowd": 0, "area": w * h}
        annotations.append(annotation | ({"segmentation": [outline]} if masks else {}))
    images = [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "knife"}]}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_named_once_and_repair_changes_no_box(form, masks):
    one = CocoSet("set", content([FORMS[form](*box) for box in BOXES], masks), None, None)
    findings = [f for f in check_sets([one], read_images=False).sets[0].findings if f.kind.startswith("box")]
    assert [finding.kind for finding in findings if finding.kind != "box_only"] == ["box_form"]
    assert findings[0].detail.startswith(form)
    repaired = repair(one)
    assert [a["bbox"] for a in repaired.content["annotations"]] == [a["bbox"] for a in one.content["annotations"]]


MORE = [(x, y, w, h) for x, y, w, h in BOXES for x, y in ((x, y), (x // 2, y // 2), (x // 3, y // 4))]
WIDE = [(4 * x, y, 4 * w, h) for x, y, w, h in BOXES]  # in images of four times the width


@pytest.mark.parametrize(
    ("given", "frame", "name"),
    [
        ([[y, x, h, w] for x, y, w, h in WIDE], (4 * WIDTH, HEIGHT), r"y before x, .* swapped \[y, x, height, width]"),
        (
            [[y, x, y + h, x + w] for x, y, w, h in WIDE],
            (4 * WIDTH, HEIGHT),
            r"y before x, .* swapped \[y1, x1, y2, x2]",
        ),
        ([[100 * v for v in shares(box)] for box in MORE], (64, 48), r"percent of the image \[x, y, width"),
        ([[100 * v for v in shares(corners(*box))] for box in MORE], (640, 480), r"percent of the image \[x1, y1, x2"),
        ([[100 * v for v in shares(box)] for box in MORE], (640, 480), r"percent of the image \[x, y, width"),
        ([[1000 * v for v in shares(corners(*b))] for b in MORE], (640, 480), r"thousandths of the image \[x1, y1, x2"),
        ([shares(centers(*box)) for box in MORE], (WIDTH, HEIGHT), r"shares of the image \[cx, cy, width"),
        ([(5 * x, 6 * y, w, h) for x, y, w, h in MORE], (WIDTH, HEIGHT), "14 of 18 reach beyond their image"),
        ([(3 * x, 3 * y, 3 * w, 3 * h) for x, y, w, h in MORE], (WIDTH, HEIGHT), "15 of 18 reach beyond their image"),
    ],
)
def test_other_forms_are_named(given, frame, name):
    form, _ = find_box_form(({"bbox": list(box)}, frame) for box in given)
    assert re.match(name, form)


@pytest.mark.parametrize(("frame", "factor"), [((640, 480), 1), ((640, 480), 3.7), ((190, 190), 0.6)])
def test_boxes_of_coco_may_lie_in_a_part_of_the_image(frame, factor):
    assert find_box_form(({"bbox": [factor * value for value in box]}, frame) for box in MORE) is None


def test_classes_that_are_numbered_anew_take_the_boxes_of_another_form_with_them():
    other = content([corners(*box) for box in BOXES])
    other["categories"] = [{"id": 1, "name": "gun"}, {"id": 7, "name": "knife"}]
    for annotation in other["annotations"][::2]:
        annotation["category_id"] = 7
    repaired = repair(CocoSet("set", other, None, None)).content
    assert repaired["categories"] == [{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}]
    assert [a["category_id"] for a in repaired["annotations"]] == [2, 1] * 3


def test_centers_are_told_by_the_masks():
    one = content([centers(*box) for box in BOXES], masks=True)
    form, to_coco = find_box_form((a, (WIDTH, HEIGHT)) for a in one["annotations"])
    assert form.startswith("center and size") and "width / 2" in to_coco


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 150), st.integers(0, 110), st.integers(1, 160), st.integers(1, 120)),
        min_size=1,
        max_size=60,
    ),
    st.booleans(),
)
def test_boxes_of_coco_are_never_taken_for_another_form(boxes, with_a_faulty_one):
    inside = [(x, y, min(w, WIDTH - x), min(h, HEIGHT - y)) for x, y, w, h in boxes]
    if with_a_faulty_one:
        inside.append((100, 50, 100, 30))
    annotations = [{"bbox": list(box)} for box in inside]
    assert find_box_form((annotation, (WIDTH, HEIGHT)) for annotation in annotations) is None


def test_coco_boxes_are_fine():
    one = CocoSet("set", content(BOXES), None, None)
    assert "box_form" not in {f.kind for f in check_sets([one], read_images=False).sets[0].findings}
