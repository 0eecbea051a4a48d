"""Export and convert are each other's reverse, up to what a format can't hold, which is told."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_examples import instance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from xray_lazy.data.check import CocoSet, check_sets
from xray_lazy.data.convert import convert
from xray_lazy.data.convert.label_studio_runs import decode_brush, encode_brush
from xray_lazy.data.label_export import LABEL_WRITERS, export_labels
from xray_lazy.data.masks.run_lengths import encode, encode_polygons
from xray_lazy.errors import UserError

NAMES = ("1.png", "Koffer ß/手荷物.png", "sub/1.jpg", "sub/a b & <c>.png")
SIZE = (40, 30)
HOLDS_ALL = ("labelme", "cvat", "label_studio")
SOURCES = {"yolo_segment": "yolo"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        data = cv2.imencode(Path(name).suffix, np.full((SIZE[1], SIZE[0], 3), 200, np.uint8))[1]
        (folder / name).write_bytes(data.tobytes())
    return folder


def there_and_back(content: dict, folder: Path, target: str, output: Path, **options):
    """What was said, and the content that `convert` makes of an export."""
    exported = export_labels(CocoSet("set", content, folder), target, output, overwrite=True, **options)
    source = SOURCES.get(target, target)
    classes = output / LABEL_WRITERS[target].mark
    given = str(classes) if target in ("voc", "labelme") else None
    return exported, convert(source, str(output), classes=given).content


def comparable(content: dict, is_drawn: bool = False) -> dict[str, list]:
    """By image: class, crowd, box, and mask as it is or as pixels."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    by_image = {image["file_name"]: [] for image in content["images"]}
    of_id = {image["id"]: image["file_name"] for image in content["images"]}
    for one in content["annotations"]:
        mask = one.get("segmentation") or None
        if mask and (is_drawn or isinstance(mask, dict)):
            mask = mask if isinstance(mask, dict) else encode_polygons(mask, SIZE[1], SIZE[0])
            mask = np.argwhere(coco_mask.decode(mask)).tolist()
        elif mask:
            mask = [[round(value, 2) for value in part] for part in mask]
        box = [round(value, 2) for value in one["bbox"]]
        by_image[of_id[one["image_id"]]].append((names[one["category_id"]], one["iscrowd"], box, mask))
    return {name: sorted(entries, key=repr) for name, entries in by_image.items()}


coordinates = st.integers(0, 4 * 28).map(lambda quarter: quarter / 4)


@st.composite
def boxes(draw):
    x, y = draw(coordinates), draw(coordinates)
    return [x, y, draw(st.integers(4, 4 * 10)) / 4, draw(st.integers(4, 7)) / 4]


@st.composite
def outlines(draw):
    """A triangle or quadrangle of some area."""
    x, y = draw(st.integers(0, 20)), draw(st.integers(0, 12))
    width, height = draw(st.integers(3, 18)), draw(st.integers(3, 16))
    corners = [x, y, x + width, y + draw(st.integers(0, 2)), x + width, y + height]
    return [float(value) for value in (*corners, *draw(st.sampled_from([(), (x, y + height)])))]


@st.composite
def run_lengths(draw):
    """Pixels at random in a window, which have holes and parts."""
    seed, side = draw(st.integers(0, 2**16)), draw(st.integers(2, 12))
    bitmap = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    bitmap[3 : 3 + side, 5 : 5 + side] = np.random.default_rng(seed).integers(0, 2, (side, side))
    bitmap[4, 6] = 1
    return encode(bitmap)


@st.composite
def sets(draw):
    images = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    ids = draw(st.lists(st.integers(0, 10**6), min_size=len(images), max_size=len(images), unique=True))
    classes = draw(st.lists(st.sampled_from(["Knife", "gun", "刀", "a, b", "x&<y>", "7"]), min_size=1, unique=True))
    annotations = []
    for image_id in ids:
        for _ in range(draw(st.integers(0, 3))):
            shape = draw(st.one_of(boxes(), st.lists(outlines(), min_size=1, max_size=3), run_lengths()))
            has_mask = isinstance(shape, dict) or isinstance(shape[0], list)
            one = {"id": len(annotations) + 1, "image_id": image_id, "category_id": draw(st.integers(1, len(classes)))}
            one |= {"iscrowd": draw(st.integers(0, 1)), "segmentation": shape if has_mask else []}
            annotations.append({**one, "bbox": box_of(shape) if has_mask else shape, "area": 1.0})
    return {
        "images": [
            {"id": id, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
            for id, name in zip(ids, images, strict=True)
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in enumerate(classes, start=1)],
    }


def box_of(mask) -> list[float]:
    if isinstance(mask, dict):
        return coco_mask.toBbox(mask).tolist()
    xs, ys = ([value for part in mask for value in part[axis::2]] for axis in (0, 1))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


@pytest.mark.parametrize("target", HOLDS_ALL)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=sets())
def test_a_set_comes_back_as_it_was(tmp_path, folder, target, content):
    exported, back = there_and_back(content, folder, target, tmp_path / "out")
    assert comparable(back) == comparable(content)
    assert not exported.lost and exported.fields == ["ids"]
    assert [one["name"] for one in back["categories"]] == [one["name"] for one in content["categories"]]


@pytest.mark.parametrize("target", ["yolo", "voc"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=sets())
def test_boxes_come_back_and_what_does_not_is_told(tmp_path, folder, target, content):
    exported, back = there_and_back(content, folder, target, tmp_path / "out")
    crowds = sum(one["iscrowd"] for one in content["annotations"])
    assert exported.lost["crowd region", "crowd regions"] == crowds

    def without_masks(entries):
        return {name: [(*one[:3],) for one in ones if not one[1]] for name, ones in entries.items()}

    ours, theirs = without_masks(comparable(content)), without_masks(comparable(back))
    assert {name: sorted(ones) for name, ones in ours.items()} == {name: sorted(ones) for name, ones in theirs.items()}
    assert [one["name"] for one in back["categories"]] == [one["name"] for one in content["categories"]]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=st.lists(st.one_of(outlines().map(lambda part: [part]), run_lengths()), min_size=1, max_size=3))
def test_outlines_of_yolo_draw_the_same_pixels_but_for_holes_and_gaps(tmp_path, folder, shapes):
    annotations = [instance(i, segmentation=mask, bbox=box_of(mask)) for i, mask in enumerate(shapes, start=1)]
    content = {
        "images": [{"id": 1, "file_name": NAMES[0], "width": SIZE[0], "height": SIZE[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "gun"}],
    }
    exported, back = there_and_back(content, folder, "yolo_segment", tmp_path / "out")
    ours, theirs = (comparable(one, is_drawn=True)[NAMES[0]] for one in (content, back))
    if not exported.lost:
        assert [one[3] for one in ours] == [one[3] for one in theirs]
    assert set(exported.lost) <= {
        ("hole of a mask", "holes of masks"),
        ("gap between parts of a mask", "gaps between parts of a mask"),
    }


def test_a_ring_keeps_its_hole_where_the_format_has_masks_and_loses_it_with_a_line_where_not(tmp_path, folder):
    bitmap = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    bitmap[5:20, 5:20] = 1
    bitmap[10:12, 10:12] = 0
    content = {
        "images": [{"id": 9, "file_name": NAMES[1], "width": SIZE[0], "height": SIZE[1], "license": 3}],
        "annotations": [instance(4, 9, segmentation=encode(bitmap), bbox=[5, 5, 15, 15], area=221, score=0.5)],
        "categories": [{"id": 1, "name": "gun", "supercategory": "weapon"}],
    }
    exported, back = there_and_back(content, folder, "yolo_segment", tmp_path / "yolo")
    assert "1 hole of a mask" in exported.summary() and "1 score" in exported.summary()
    assert "ids, license, supercategory" in exported.summary()
    bitmap[10:12, 10:12] = 1
    assert comparable(back, is_drawn=True)[NAMES[1]][0][3] == np.argwhere(bitmap).tolist()


@pytest.mark.parametrize("bitmap", [np.zeros((3, 5)), np.ones((300, 400)), np.eye(7), np.indices((5, 9)).sum(0) % 2])
def test_brush_masks_of_label_studio_are_read_as_they_are_written(bitmap):
    assert (decode_brush(encode_brush(bitmap), *bitmap.shape) == bitmap).all()
    with pytest.raises(ValueError, match="cut off"):
        decode_brush(encode_brush(bitmap)[:-2], *bitmap.shape)


@pytest.mark.parametrize("before", [1, 2, 3, 4, 5])
def test_single_values_of_a_brush_mask_may_begin_in_the_midst_of_a_pixel(before):
    values = [0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 255]
    run = f"{'1' if not any(values[:before]) else '0'}00{before - 1:03b}"
    run += "0" * 8 if run[0] == "1" else "".join(f"{value:08b}" for value in values[:before])
    rest = f"001{len(values) - before - 1:04b}" + "".join(f"{value:08b}" for value in values[before:])
    bits = f"{len(values):032b}" + "00111" + "0010" + "0011" + "0111" + "1111" + run + rest
    bits += "0" * (-len(bits) % 8)
    stream = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert decode_brush(stream, 1, 3).tolist() == [[False, True, True]]


def small_set(*names, **changes) -> dict:
    images = [{"id": i, "file_name": n, "width": SIZE[0], "height": SIZE[1]} for i, n in enumerate(names, start=1)]
    content = {"images": images, "annotations": [instance(1, bbox=[10, 10, 20, 20], segmentation=[])]}
    return {**content, "categories": [{"id": 1, "name": "gun"}], **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (small_set("sub/1.png", "sub/1.jpg"), "the same label file"),
        (small_set("../1.png"), "leads out"),
        (small_set("1.png", categories=[{"id": 1, "name": " gun"}]), "spaces around"),
        (small_set("1.png", categories=[{"id": 1, "name": "g\nun"}]), "line break"),
        (small_set("1.png", categories=[{"id": 1, "name": "gun"}, {"id": 2, "name": "gun"}]), "given twice"),
        (small_set("1.png", annotations=[instance(1, bbox=[1, 1, 0, 3], segmentation=[])]), "has 1 error"),
        ({**small_set(), "images": [{"id": 1, "file_name": "1.png"}]}, "no size"),
        ({**small_set(), "images": [{"id": 1, "file_name": "1.png", "width": 99999, "height": 99999}]}, "no size"),
    ],
)
def test_what_can_not_be_written_is_refused_before_anything_is(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        export_labels(CocoSet("set", content), "voc", tmp_path / "out", images="none")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_is_replaced_only_if_asked_and_other_folders_never(tmp_path, folder):
    one = CocoSet("set", small_set("1.png"), folder)
    export_labels(one, "cvat", tmp_path / "out")
    with pytest.raises(UserError, match="there already"):
        export_labels(one, "cvat", tmp_path / "out")
    export_labels(one, "cvat", tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match="no earlier export"):
        export_labels(one, "voc", tmp_path / "out", overwrite=True)
    with pytest.raises(UserError, match="1 image of 1 not in"):
        export_labels(CocoSet("set", small_set("2.png"), folder), "cvat", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("target", LABEL_WRITERS)
@pytest.mark.parametrize("work", ["a set of their own", "another file", "a corrected label", "an image"])
def test_what_people_put_into_an_export_is_never_replaced(tmp_path, folder, target, work):
    one, out, mark = CocoSet("set", small_set("1.png"), folder), tmp_path / "out", LABEL_WRITERS[target].mark
    export_labels(one, target, out)
    if work == "a set of their own":  # formats are known by the names of their files alone
        (out / ".written").unlink()
    elif work == "another file":
        (out / "runs").mkdir()
        (out / "runs" / "best.pt").touch()
    elif work == "a corrected label":
        (out / mark).write_bytes((out / mark).read_bytes() + b" ")
    else:
        (out / LABEL_WRITERS[target].image_folder / "mine.png").touch()
    before = {path: path.is_file() and path.read_bytes() for path in out.rglob("*")}
    words = {"a set of their own": "is no earlier export", "a corrected label": "was changed since it was written"}
    with pytest.raises(UserError, match=words.get(work, "which is no part of the results that would be replaced")):
        export_labels(one, target, out, overwrite=True)
    assert {path: path.is_file() and path.read_bytes() for path in out.rglob("*")} == before


def test_predictions_have_their_scores_where_the_program_shows_them(tmp_path, folder):
    annotations = [instance(1, segmentation=[], score=0.75), instance(2, score=0.5)]
    one = CocoSet("set", small_set("1.png", "sub/1.jpg", annotations=annotations), folder)
    for target in HOLDS_ALL:
        export_labels(one, target, tmp_path / target, are_predictions=True)
    first, second = json.loads((tmp_path / "label_studio" / "tasks.json").read_text())
    assert [region["score"] for region in first["predictions"][0]["result"]] == [0.75, 0.5]
    assert first["predictions"][0]["score"] == 0.75 and second["predictions"][0]["result"] == []
    assert "annotations" not in first
    assert '<attribute name="score">0.7500</attribute>' in (tmp_path / "cvat" / "annotations.xml").read_text()
    shapes = json.loads((tmp_path / "labelme" / "1.json").read_text())["shapes"]
    assert [shape["score"] for shape in shapes] == [0.75, 0.5]
    content = convert("label_studio", str(tmp_path / "label_studio" / "tasks.json"), str(folder)).content
    assert check_sets([CocoSet("back", content, folder)]).trainable
    assert [one["bbox"] for one in content["annotations"]] == [[10, 10, 20, 20]] * 2
