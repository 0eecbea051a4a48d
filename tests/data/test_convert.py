"""VOC, YOLO and labelme to COCO: boxes and masks come back as they were, and every fault is told with its place."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from xray_lazy.data.convert import convert
from xray_lazy.data.convert.class_file import read_classes
from xray_lazy.data.image_files.image_file import read_image
from xray_lazy.errors import UserError

TOOL = Path(__file__).parents[2] / "tools" / "dataset.py"
WIDTH, HEIGHT = 64, 48
CLASSES = ["Schlüssel", "gun", "knife & fork"]


def write_image(path: Path, size=(WIDTH, HEIGHT), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return path


def voc_object(name: str, corners, extra: str = "") -> str:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{escape(name)}</name><difficult>0</difficult><bndbox>{sides}</bndbox>{extra}</object>"


def write_voc(path: Path, objects: str, filename: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>{filename}</filename>{objects}</annotation>", encoding="utf-8")


def shape(label: str, points, shape_type: str = "polygon", group_id=None, **more) -> dict:
    return {"label": label, "points": points, "group_id": group_id, "shape_type": shape_type, "flags": {}, **more}


def write_labelme(path: Path, *shapes: dict, image_path: str | None = None, image_data: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.4.1", "shapes": shapes, "imagePath": image_path, "imageData": image_data}
    path.write_text(json.dumps(content), encoding="utf-8")


def annotations_of(converted, file_name: str) -> list[dict]:
    (image,) = [image for image in converted.content["images"] if image["file_name"] == file_name]
    return [a for a in converted.content["annotations"] if a["image_id"] == image["id"]]


def class_of(converted, annotation: dict) -> str:
    return {c["id"]: c["name"] for c in converted.content["categories"]}[annotation["category_id"]]


@st.composite
def boxes(draw):
    """(class, [x, y, width, height]) with whole pixels inside the image."""
    x, y = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return draw(st.sampled_from(CLASSES)), [x, y, draw(st.integers(1, WIDTH - x)), draw(st.integers(1, HEIGHT - y))]


sets = st.dictionaries(st.from_regex(r"(Gepäck/)?[ab]{1,2}", fullmatch=True), st.lists(boxes(), max_size=3), min_size=1)
round_trip = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def require_same(converted, images: dict[str, list]) -> None:
    """Every image is there with its boxes; ids count from 1."""
    names = [image["file_name"] for image in converted.content["images"]]
    assert names == sorted((f"{name}.png" for name in images), key=lambda name: Path(name).parts)
    for entries in converted.content.values():
        assert [entry["id"] for entry in entries] == list(range(1, len(entries) + 1))
    for name, expected in images.items():
        found = annotations_of(converted, f"{name}.png")
        assert [class_of(converted, a) for a in found] == [class_name for class_name, _ in expected]
        for annotation, (_, box) in zip(found, expected, strict=True):
            assert annotation["bbox"] == pytest.approx(box, abs=0.01)
            assert annotation["area"] == pytest.approx(box[2] * box[3], rel=0.02, abs=0.1)


@round_trip
@given(sets, st.booleans())
def test_boxes_come_back_from_voc(tmp_path, images, zero_based):
    shutil.rmtree(tmp_path)
    first = 0 if zero_based else 1
    for name, found in images.items():
        write_image(tmp_path / "JPEGImages" / f"{name}.png")
        corners = [(c, (x + first, y + first, x + w, y + h)) for c, (x, y, w, h) in found]
        objects = "".join(voc_object(*item) for item in corners)
        write_voc(tmp_path / "Annotations" / f"{name}.xml", objects, f"{Path(name).name}.png")
    converted = convert("voc", str(tmp_path), zero_based=zero_based)
    require_same(converted, images)
    used = sorted({class_name for found in images.values() for class_name, _ in found})
    assert [category["name"] for category in converted.content["categories"]] == used


@round_trip
@given(sets)
def test_boxes_come_back_from_yolo(tmp_path, images):
    shutil.rmtree(tmp_path)
    for name, found in images.items():
        write_image(tmp_path / "images" / f"{name}.png")
        lines = [
            f"{CLASSES.index(c)} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f}"
            for c, (x, y, w, h) in found
        ]
        if lines:  # images without instances have no file in many YOLO sets
            path = tmp_path / "labels" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "unlabelled.txt").write_text("\n")
    write_image(tmp_path / "images" / "unlabelled.png")
    (tmp_path / "data.yaml").write_text(f"names: {json.dumps(CLASSES)}\n", encoding="utf-8")
    converted = convert("yolo", str(tmp_path))
    require_same(converted, {**images, "unlabelled": []})
    assert [category["name"] for category in converted.content["categories"]] == CLASSES


@round_trip
@given(sets)
def test_boxes_come_back_from_labelme_rectangles_drawn_from_any_corner(tmp_path, images):
    shutil.rmtree(tmp_path)
    for name, found in images.items():
        write_image(tmp_path / f"{name}.png")
        shapes = [shape(c, [[x + w, y], [x, y + h]], "rectangle") for c, (x, y, w, h) in found]
        write_labelme(tmp_path / f"{name}.json", *shapes, image_path=f"C:\\scans\\{Path(name).name}.png")
    converted = convert("labelme", str(tmp_path))
    require_same(converted, images)
    assert all(annotation["segmentation"] == [] for annotation in converted.content["annotations"])


def test_yolo_polygons_stay_polygons(tmp_path):
    write_image(tmp_path / "train" / "images" / "a.png")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n0 0.5 0.5 1 1\n")
    (tmp_path / "README.roboflow.txt").write_text("This set was exported ...")
    (tmp_path / "data.yaml").write_text("names: {0: gun}\n")
    polygon, box = convert("yolo", str(tmp_path)).content["annotations"]
    assert polygon["segmentation"] == [[16, 12, 48, 12, 48, 36, 16, 36]]
    assert polygon["bbox"] == [16, 12, 32, 24] and polygon["area"] == 768
    assert box["segmentation"] == [] and box["bbox"] == [0, 0, 64, 48]


def test_yolo_classes_come_from_a_given_file_beside_flat_labels(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    (tmp_path / "names.list").write_text("gun\nknife\n")
    with pytest.raises(UserError, match="class names are unknown"):
        convert("yolo", str(tmp_path))
    with pytest.raises(UserError, match=r"names\.txt: its image is not in"):
        (tmp_path / "names.txt").write_text("gun\nknife\n")
        convert("yolo", str(tmp_path), classes=str(tmp_path / "names.txt"))
    (tmp_path / "names.txt").rename(tmp_path / "classes.txt")
    converted = convert("yolo", str(tmp_path))
    assert class_of(converted, annotations_of(converted, "a.png")[0]) == "knife"
    assert converted.class_file == tmp_path / "classes.txt"


def test_voc_polygons_parts_and_stated_file_names(tmp_path):
    outline = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate([(3, 3), (9, 3), (9, 7)], 1))
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    write_voc(tmp_path / "1.xml", voc_object("gun", (3, 3, 9, 7), part + f"<polygon>{outline}</polygon>"), "scan.png")
    write_image(tmp_path / "scan.png")
    (annotation,) = convert("voc", str(tmp_path)).content["annotations"]
    assert annotation["bbox"] == [2, 2, 7, 5]
    assert annotation["segmentation"] == [[2, 2, 8, 2, 8, 6]] and annotation["area"] == 12


def test_labelme_shapes_of_one_group_are_one_instance(tmp_path):
    write_image(tmp_path / "a.png")
    left, right = [[2, 2], [12, 2], [12, 12], [2, 12]], [[22, 2], [32, 2], [32, 12], [22, 12]]
    write_labelme(
        tmp_path / "a.json",
        shape("gun", left, group_id=1),
        shape("knife", right, group_id=1),
        shape("gun", right, group_id=1),
        shape("gun", [[40, 2], [50, 12]], "rectangle", group_id=1),
        shape("gun", left),
    )
    converted = convert("labelme", str(tmp_path))
    joined, knife, single = annotations_of(converted, "a.png")
    assert len(joined["segmentation"]) == 3 and joined["area"] == 300 and joined["bbox"] == [2, 2, 48, 10]
    assert class_of(converted, knife) == "knife"
    assert single["segmentation"] == [[2, 2, 12, 2, 12, 12, 2, 12]] and single["area"] == 100


def test_labelme_circles_become_polygons_within_a_tenth_of_a_pixel(tmp_path):
    write_image(tmp_path / "a.png")
    write_labelme(tmp_path / "a.json", shape("battery", [[30, 24], [30, 40]], "circle"))
    (annotation,) = convert("labelme", str(tmp_path)).content["annotations"]
    points = np.reshape(annotation["segmentation"][0], (-1, 2))
    middles = (points + np.roll(points, 1, axis=0)) / 2
    distances = np.hypot(*(middles - (30, 24)).T)
    assert distances.min() > 15.9 and distances.max() <= 16
    assert annotation["area"] == pytest.approx(np.pi * 16**2, rel=0.01)


def test_labelme_bit_masks_become_run_lengths_joined_with_their_group(tmp_path):
    from pycocotools import mask

    write_image(tmp_path / "a.png")
    pixels = np.random.default_rng(0).random((5, 7)) < 0.5
    pixels[0, 0] = pixels[-1, -1] = True
    text = base64.b64encode(cv2.imencode(".png", pixels.astype(np.uint8) * 255)[1].tobytes()).decode()
    bits = shape("gun", [[10, 20], [16, 24]], "mask", group_id=3, mask=text)
    polygon = shape("gun", [[40, 10], [50, 10], [50, 20], [40, 20]], group_id=3)
    write_labelme(tmp_path / "a.json", bits, polygon)
    (annotation,) = convert("labelme", str(tmp_path)).content["annotations"]
    decoded = mask.decode(annotation["segmentation"])
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[20:25, 10:17] = pixels
    expected[10:20, 40:50] = 1
    assert np.array_equal(decoded, expected)
    assert annotation["area"] == expected.sum() and annotation["bbox"] == [10, 10, 40, 15]


def test_labelme_shapes_without_area_are_left_out_and_counted(tmp_path):
    write_image(tmp_path / "a.png")
    write_labelme(tmp_path / "a.json", shape("gun", [[1, 1]], "point"), shape("gun", [[1, 1], [5, 5]], "line"))
    converted = convert("labelme", str(tmp_path))
    assert converted.content["annotations"] == []
    assert "left out, as they have no area: 1 line, 1 point" in converted.summary()


def test_a_image_inside_a_labelme_file_is_written_to_the_given_folder(tmp_path):
    image = write_image(tmp_path / "elsewhere" / "x.jpg").read_bytes()
    source, images = tmp_path / "labels", tmp_path / "new"
    data = base64.b64encode(image).decode()
    write_labelme(source / "day 1" / "bag.json", shape("gun", [[1, 1], [9, 9]], "rectangle"), image_data=data)
    with pytest.raises(UserError, match="inside the file: with --images NEW_DIR it is written there"):
        convert("labelme", str(source))
    for _ in range(2):  # the second time the image is there
        converted = convert("labelme", str(source), images=str(images))
        assert converted.content["images"] == [
            {"id": 1, "file_name": "day 1/bag.jpg", "width": WIDTH, "height": HEIGHT}
        ]
        assert (images / "day 1" / "bag.jpg").read_bytes() == image


def test_sizes_are_those_of_images_turned_upright(tmp_path):
    write_image(tmp_path / "a.jpg", orientation=6)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "classes.txt").write_text("gun\n")
    content = convert("yolo", str(tmp_path)).content
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (HEIGHT, WIDTH)
    assert content["annotations"][0]["bbox"] == [0, 0, HEIGHT, WIDTH]


def test_given_classes_keep_their_order_and_refuse_others(tmp_path):
    write_image(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", voc_object("gun", (1, 1, 5, 5)))
    names = tmp_path / "names.txt"
    names.write_text("\ufeffknife\ngun\n", encoding="utf-8")
    converted = convert("voc", str(tmp_path), classes=str(names))
    assert [c["name"] for c in converted.content["categories"]] == ["knife", "gun"]
    assert converted.content["annotations"][0]["category_id"] == 2
    names.write_text("knife\n")
    with pytest.raises(UserError, match=r"a\.xml: object 1 \(gun\): class 'gun' is not among the given classes knife"):
        convert("voc", str(tmp_path), classes=str(names))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no class names"),
        ("gun\n\nknife\n", "has an empty line"),
        ("gun\ngun\n", "has gun more than once"),
    ],
)
def test_class_files_that_would_shift_the_numbers_are_refused(tmp_path, text, message):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        convert("yolo", str(tmp_path))


@pytest.mark.parametrize("names", ["[no, 007, 1e3, 'a b']", "{1: 007, 0: no, 2: 1e3, 3: a b}"])
def test_names_in_a_yaml_file_are_as_they_are_written(tmp_path, names):
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    assert read_classes(tmp_path / "data.yaml") == ("no", "007", "1e3", "a b")


@pytest.mark.parametrize("names", ["names: {0: gun, 2: knife}", "nc: 2", "names: [", "- gun", "names: {a: b, 0: c}"])
def test_yaml_files_without_numbered_names_are_refused(tmp_path, names):
    (tmp_path / "data.yaml").write_text(names)
    with pytest.raises(UserError, match=r"data\.yaml"):
        convert("yolo", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "3 numbers behind the class"),
        ("0 0.5 0.5 0.1 0.1 0.9", "5 numbers behind the class"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "7 numbers behind the class"),
        ("2 0.5 0.5 0.1 0.1", "class 2, but 2 names are there: 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "the class is '-1'"),
        ("gun 0.5 0.5 0.1 0.1", "the class is 'gun'"),
        ("0 32 24 10 10", "32, 24, 10, 10 is outside 0 to 1"),
        ("0 0.5 nan 0.1 0.1", "nan is outside 0 to 1"),
        ("0 0.5 0,5 0.1 0.1", "not a number"),
    ],
)
def test_a_wrong_yolo_line_is_told_with_file_and_line(tmp_path, line, message):
    write_image(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("gun\nknife\n")
    (tmp_path / "a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(UserError, match=re.escape(f"a.txt:3: {message}")):
        convert("yolo", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "a.xml:1: not valid XML"),
        ("<html></html>", "a.xml: <html> instead of <annotation>"),
        (f"<annotation>{voc_object('', (1, 1, 2, 2))}</annotation>", "a.xml: object 1: no <name>"),
        (
            f"<annotation>{voc_object('gun', (5, 1, 2, 2))}</annotation>",
            "object 1 (gun): the box ends before it starts",
        ),
        (f"<annotation>{voc_object('gun', (0, 1, 2, 2))}</annotation>", "VOC counts from 1; is it a --zero-based set?"),
        (f"<annotation>{voc_object('gun', (1, 'x', 2, 2))}</annotation>", "<bndbox/ymin> is 'x', not a number"),
        (f"<annotation>{voc_object('gun', (1, 'inf', 2, 2))}</annotation>", "<bndbox/ymin> is 'inf', not a number"),
        ("<annotation><object><name>gun</name></object></annotation>", "object 1 (gun): no <bndbox/xmin>"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>', "declares entities"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>', "declares entities"),
    ],
)
def test_a_wrong_voc_file_is_told_with_its_object(tmp_path, text, message):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        convert("voc", str(tmp_path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("", [[1, 1], [2, 2], [3, 1]]), "shape 0: no label"),
        (shape("gun", [[1, 1], [2, 2]]), "shape 0 (gun): a polygon of 2 points"),
        (shape("gun", [[1, 1], [2, float("nan")], [3, 3]]), "`points` is not a list of [x, y]"),
        (shape("gun", [[1, 1], [2, 10**400], [3, 3]]), "`points` is not a list of [x, y]"),
        (shape("gun", "abc"), "`points` is not a list of [x, y]"),
        (shape("gun", [[1, 1]], "circle"), "a circle of 1 point"),
        (shape("gun", [[1, 1], [1, 1]], "circle"), "a circle without a radius"),
        (shape("gun", [[1, 1]], "spiral"), "shape_type 'spiral' is unknown"),
        (shape("gun", [[1, 1], [2, 2]], "mask"), "mask is not in base64"),
        (shape("gun", [[1, 1], [2, 2]], "mask", mask="AAAA"), "mask is not an image"),
        ("gun", "shape 0: no label"),
    ],
)
def test_a_wrong_labelme_shape_is_told_with_its_number(tmp_path, wrong, message):
    write_image(tmp_path / "a.png")
    write_labelme(tmp_path / "a.json", wrong)
    with pytest.raises(UserError, match=re.escape(message)):
        convert("labelme", str(tmp_path))


def test_a_broken_labelme_file_is_told_and_a_coco_file_beside_is_passed_over(tmp_path):
    write_image(tmp_path / "a.png")
    write_labelme(tmp_path / "a.json", shape("gun", [[1, 1], [2, 2]], "rectangle"))
    (tmp_path / "coco.json").write_text(json.dumps(convert("labelme", str(tmp_path)).content))
    assert len(convert("labelme", str(tmp_path)).content["annotations"]) == 1
    (tmp_path / "b.json").write_text('{"shapes": [\n')
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(UserError, match=r"(?s)b\.json:2: not valid JSON.*c\.json: no list `shapes`"):
        convert("labelme", str(tmp_path))


def test_all_faults_are_told_at_once_up_to_a_limit(tmp_path):
    (tmp_path / "classes.txt").write_text("gun\n")
    write_image(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "a.txt").write_text("7 0 0 0 0\n" * 15)
    for number in range(10):
        (tmp_path / f"b{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(UserError) as caught:
        convert("yolo", str(tmp_path))
    lines = caught.value.message.splitlines()
    assert lines[0] == "26 faults in the labels" and lines[-1].strip() == "... and 6 more"
    assert len(lines) == 22
    assert "b0.txt: its image is not in" in caught.value.message


def test_a_label_that_fits_two_images_is_told(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "a.jpg")
    write_voc(tmp_path / "a.xml", voc_object("gun", (1, 1, 5, 5)))
    with pytest.raises(UserError, match=r"several images may be meant: a\.jpg, a\.png"):
        convert("voc", str(tmp_path))
    write_voc(tmp_path / "a.xml", voc_object("gun", (1, 1, 5, 5)), "a.png")
    converted = convert("voc", str(tmp_path))
    assert len(annotations_of(converted, "a.png")) == 1 and annotations_of(converted, "a.jpg") == []


def test_two_labels_for_one_image_are_told(tmp_path):
    write_image(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", voc_object("gun", (1, 1, 5, 5)))
    write_voc(tmp_path / "b.xml", voc_object("gun", (1, 1, 5, 5)), "a.png")
    with pytest.raises(UserError, match=r"b\.xml: image a\.png already has the label file .*a\.xml"):
        convert("voc", str(tmp_path))


def test_labels_match_images_whose_accents_are_written_the_other_way(tmp_path):
    write_image(tmp_path / "Tu\u0308te.png")
    write_voc(tmp_path / "T\u00fcte.xml", voc_object("gun", (1, 1, 5, 5)))
    assert len(convert("voc", str(tmp_path)).content["annotations"]) == 1


def test_the_command_converts_checks_and_does_not_overwrite(tmp_path):
    def run(*arguments) -> subprocess.CompletedProcess:
        command = [sys.executable, str(TOOL), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    write_image(tmp_path / "set" / "images" / "a.png")
    write_image(tmp_path / "set" / "images" / "b.png")
    write_voc(tmp_path / "set" / "labels" / "a.xml", voc_object("gun", (1, 1, 5, 5)))
    output = tmp_path / "coco.json"
    done = run("convert", "voc", tmp_path / "set", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "2 images (1 without instances), 1 instance (0 with mask)\n  gun: 1\n" in done.stdout
    assert f"check {output} {tmp_path / 'set' / 'images'}" in done.stdout
    assert run("check", output, tmp_path / "set" / "images").returncode == 0
    again = run("convert", "voc", tmp_path / "set", "--output", output)
    assert again.returncode == 2 and "is there already" in again.stderr
    assert run("convert", "voc", tmp_path / "set", "--output", output, "--overwrite").returncode == 0
    nothing = run("convert", "yolo", tmp_path / "nowhere", "--output", tmp_path / "x.json")
    assert nothing.returncode == 2 and "there is no folder" in nothing.stderr


def write_voc_of_size(path: Path, objects: str, width: object, height: object) -> None:
    write_voc(path, f"<size><width>{width}</width><height>{height}</height></size>{objects}")


def test_labels_of_another_scale_are_scaled_to_their_image_and_it_is_said(tmp_path):
    write_image(tmp_path / "a.png")
    write_voc_of_size(tmp_path / "a.xml", voc_object("gun", (21, 11, 60, 40)), 2 * WIDTH, 2 * HEIGHT)
    converted = convert("voc", str(tmp_path))
    assert converted.content["annotations"][0]["bbox"] == [10, 5, 20, 15]
    assert "scaled 1 label to the size of the image" in converted.summary()
    assert "a.xml: 128x96 stated, the image has 64x48" in converted.summary()


def test_labelme_polygons_and_bit_masks_of_another_scale_are_scaled(tmp_path):
    write_image(tmp_path / "a.png")
    square = [[20, 10], [60, 10], [60, 40], [20, 40]]
    pixels = np.full((10, 20), 255, np.uint8)
    text = base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
    bits = shape("knife", [[40, 20], [59, 29]], "mask", mask=text)
    write_labelme(tmp_path / "a.json", shape("gun", square), bits)
    content = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**content, "imageWidth": 2 * WIDTH, "imageHeight": 2 * HEIGHT}))
    gun, knife = convert("labelme", str(tmp_path)).content["annotations"]
    assert gun["segmentation"] == [[10, 5, 30, 5, 30, 20, 10, 20]] and gun["bbox"] == [10, 5, 20, 15]
    assert knife["bbox"] == [20, 10, 10, 5] and knife["segmentation"]["size"] == [HEIGHT, WIDTH]


@pytest.mark.parametrize(
    ("size", "corners", "message"),
    [
        ((WIDTH, 2 * HEIGHT), (1, 1, 5, 5), "64x96 stated, the image has 64x48, which is no scale of it"),
        ((HEIGHT, WIDTH), (1, 1, 5, 5), "48x64 stated"),
        ((WIDTH // 2, HEIGHT // 2), (1, 1, 60, 40), "its shapes reach to x 60, y 40, beyond the size it states"),
    ],
)
def test_a_label_that_states_no_scale_of_its_image_is_a_fault(tmp_path, size, corners, message):
    write_image(tmp_path / "a.png")
    write_voc_of_size(tmp_path / "a.xml", voc_object("gun", corners), *size)
    with pytest.raises(UserError, match=message):
        convert("voc", str(tmp_path))


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("wide", 48), (WIDTH, HEIGHT), ("64.0", 48)])
def test_a_size_that_is_not_stated_or_right_changes_nothing(tmp_path, size):
    write_image(tmp_path / "a.png")
    write_voc_of_size(tmp_path / "a.xml", voc_object("gun", (1, 1, 5, 5)), *size)
    converted = convert("voc", str(tmp_path))
    assert converted.content["annotations"][0]["bbox"] == [0, 0, 5, 5] and "scaled" not in converted.summary()


@pytest.mark.parametrize("source_format", ["voc", "labelme"])
def test_a_label_whose_name_and_statement_fit_different_images_is_asked_about(tmp_path, source_format):
    for name in ("1.png", "100.png"):
        write_image(tmp_path / name)
    if source_format == "voc":
        write_voc(tmp_path / "1.xml", voc_object("gun", (1, 1, 5, 5)), "100.png")
    else:
        write_labelme(tmp_path / "1.json", shape("gun", [[1, 1], [5, 5]], "rectangle"), image_path="..\\100.png")
    with pytest.raises(UserError, match=r"1\.png, 100\.png; its own name fits one.*--match-by name or stated"):
        convert(source_format, str(tmp_path))
    for match_by, meant in (("name", "1.png"), ("stated", "100.png")):
        assert len(annotations_of(convert(source_format, str(tmp_path), match_by=match_by), meant)) == 1


@pytest.mark.parametrize(
    ("label", "image"),
    [
        ("Annotation/P1.xml", "JPEGImage/P1.jpg"),
        ("train/train_annotation/P1.xml", "train/train_image/P1.jpg"),
        ("domain1/xml/P1.xml", "domain1/image/P1.jpg"),
        ("Annotation/P1.xml", "JPEGImage/7/P1.jpg"),
        ("labels/day 1/P1.xml", "P1.jpg"),
    ],
)
def test_images_are_found_in_the_folders_of_public_sets(tmp_path, label, image):
    write_image(tmp_path / image)
    write_voc(tmp_path / label, voc_object("gun", (1, 1, 5, 5)), "P1")
    assert len(convert("voc", str(tmp_path)).content["annotations"]) == 1


def test_a_label_is_not_given_the_image_of_that_name_in_another_split(tmp_path):
    write_image(tmp_path / "val" / "images" / "1.jpg")
    write_voc(tmp_path / "train" / "labels" / "1.xml", voc_object("gun", (1, 1, 5, 5)))
    with pytest.raises(UserError, match="its image is not in"):
        convert("voc", str(tmp_path))


def test_objects_that_say_nothing_are_left_out_and_counted(tmp_path):
    write_image(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", "<object/><object><name/><bndbox/></object>" + voc_object("gun", (1, 1, 5, 5)))
    converted = convert("voc", str(tmp_path))
    assert len(converted.content["annotations"]) == 1 and "2 empty objects" in converted.summary()


POSE_2D = "0 0.5 0.5 0.2 0.2 0.45 0.45\n0 0.3 0.3 0.2 0.2 0 0\n"
POSE_3D = "0 0.5 0.5 0.2 0.2 0.45 0.45 2 0.5 0.5 1\n0 0.3 0.3 0.2 0.2 0.25 0.35 0 0 0 0\n"


@pytest.mark.parametrize(("lines", "kpt_shape"), [(POSE_2D, [1, 2]), (POSE_3D, [2, 3])])
def test_yolo_pose_labels_become_boxes(tmp_path, lines, kpt_shape):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(lines)
    (tmp_path / "data.yaml").write_text(f"names: [gun]\nkpt_shape: {kpt_shape}\n")
    (tmp_path / "names.list").write_text("gun\n")
    for classes in (None, str(tmp_path / "names.list")):
        converted = convert("yolo", str(tmp_path), classes=classes)
        first, _ = converted.content["annotations"]
        assert first["segmentation"] == [] and first["bbox"] == pytest.approx([25.6, 19.2, 12.8, 9.6])
        assert "2 sets of key points" in converted.summary()


@pytest.mark.parametrize("lines", [POSE_2D, POSE_3D])
def test_yolo_pose_labels_without_kpt_shape_are_refused_by_name(tmp_path, lines):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(lines)
    (tmp_path / "classes.txt").write_text("gun\n")
    with pytest.raises(UserError, match=r"these look like YOLO pose labels.*kpt_shape"):
        convert("yolo", str(tmp_path))


@pytest.mark.parametrize(
    "lines",
    [
        "0 0.4 0.4 0.45 0.4 0.45 0.45 0.4 0.45\n",  # as a box, it would have all of its other points inside
        "0 0.25 0.5 0.3 0.5 0.28 0.55\n0 0.5 0.5 0.55 0.52 0.52 0.56\n",
        "0 0.5 0.5 0.2 0.2 0.45 0.45\n0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n",  # not all of one length
    ],
)
def test_small_yolo_polygons_are_not_taken_for_pose(tmp_path, lines):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(lines)
    (tmp_path / "classes.txt").write_text("gun\n")
    assert all(a["segmentation"] for a in convert("yolo", str(tmp_path)).content["annotations"])


@pytest.mark.parametrize(("more", "oriented"), [("", True), ("0 0.1 0.1 0.3 0.1 0.3 0.3\n", False)])
def test_oriented_yolo_boxes_are_said_to_become_masks(tmp_path, more, oriented):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.2 0.8 0.5 0.5 0.8 0.2 0.5\n" + more)
    (tmp_path / "classes.txt").write_text("gun\n")
    converted = convert("yolo", str(tmp_path))
    assert len(converted.content["annotations"][0]["segmentation"][0]) == 8
    assert ("1 oriented box (YOLO OBB): each became a mask" in converted.summary()) == oriented


def test_kpt_shape_of_no_points_says_that_lines_are_polygons(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(POSE_2D)
    (tmp_path / "data.yaml").write_text("names: [gun]\nkpt_shape: [0, 2]\n")
    assert all(a["segmentation"] for a in convert("yolo", str(tmp_path)).content["annotations"])


@pytest.mark.parametrize(
    ("kpt_shape", "message"), [("[2, 3]", "by kpt_shape there are 10"), ("[1, 4]", "`kpt_shape` is"), ("3", "is 3")]
)
def test_a_kpt_shape_that_does_not_fit_is_told(tmp_path, kpt_shape, message):
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(POSE_2D)
    (tmp_path / "data.yaml").write_text(f"names: [gun]\nkpt_shape: {kpt_shape}\n")
    with pytest.raises(UserError, match=message):
        convert("yolo", str(tmp_path))


def test_yolo_classes_may_be_written_as_decimals_and_lines_of_other_text_formats_are_named(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("gun\nknife\n")
    (tmp_path / "a.txt").write_text("1.0 0.5 0.5 0.2 0.2\n")
    (annotation,) = convert("yolo", str(tmp_path)).content["annotations"]
    assert annotation["category_id"] == 2
    (tmp_path / "a.txt").write_text("0.5 0.5 0.5 0.2 0.2\n")
    with pytest.raises(UserError, match=r"the class is '0\.5'"):
        convert("yolo", str(tmp_path))
    (tmp_path / "a.txt").write_text("a.jpg gun 10 10 60 50\n")
    with pytest.raises(UserError, match=r"no YOLO labels: .* OPIXray's .* a\.jpg gun 10") as error:
        convert("yolo", str(tmp_path))
    assert "convert opixray" in error.value.fix


def test_a_yolo_label_in_another_encoding_is_told_how_to_save(tmp_path):
    write_image(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("gun\n")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"a\.txt: not UTF-8 .*iconv"):
        convert("yolo", str(tmp_path))


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "jp2", "pgm", "gif", "webp", "dib", "mpo"])
def test_images_of_every_format_that_training_reads_are_found(tmp_path, suffix):
    written = write_image(
        tmp_path / f"a.{'jpg' if suffix in ('jfif', 'jpe', 'mpo') else 'bmp' if suffix == 'dib' else suffix}"
    )
    written.rename(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}").shape == (HEIGHT, WIDTH, 3)
    write_voc(tmp_path / "a.xml", voc_object("gun", (1, 1, 5, 5)))
    assert len(convert("voc", str(tmp_path)).content["annotations"]) == 1


def test_an_xml_in_the_encoding_that_it_states_is_read(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    name = "\u5200\u5177"
    text = f"<annotation><filename>a.png</filename>{voc_object(name, (1, 1, 20, 20))}</annotation>"
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="GBK"?>{text}'.encode("gbk"))
    assert [one["name"] for one in convert("voc", str(tmp_path)).content["categories"]] == [name]


@pytest.mark.parametrize(
    ("form", "name", "text"),
    [
        ("voc", "a.xml", "<annotation><filename>\u5200</filename></annotation>"),
        ("labelme", "a.json", '{"shapes": [], "imagePath": "\u5200"}'),
        ("yolo", "classes.txt", "\u5200"),
    ],
)
def test_labels_and_classes_in_another_encoding_are_named_as_such(tmp_path, form, name, text):
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1", encoding="utf-8")
    (tmp_path / name).write_bytes(text.encode("gbk"))
    with pytest.raises(UserError, match=r"(?s)not UTF-8 \(byte 0xb5 at") as caught:
        convert(form, str(tmp_path))
    assert "iconv" in caught.value.message + caught.value.fix


def test_opixray_text_in_role_folders_is_converted_by_its_list_and_renamed(tmp_path):
    for name in "abcd":
        write_image(tmp_path / "train/train_image" / f"{name}.jpg")
    labels = tmp_path / "train/train_annotation"
    labels.mkdir()
    (labels / "a.txt").write_text("old name.jpg  Scissor 30 40  10 20 7\nold.jpg Knife 0 0 5 5\n")
    (labels / "b.txt").write_text("")
    (labels / "d.txt").write_text("d.jpg Scissors 1 2 3 4\n")
    names = tmp_path / "train/train_knife.txt"
    names.write_text("a\nb\nd.jpg\ngone\n")
    renames = {"Scissor": "scissors", "Scissors": "scissors"}
    converted = convert("opixray", str(tmp_path), image_list=str(names), rename=renames)
    assert [image["file_name"][-5:] for image in converted.content["images"]] == ["a.jpg", "b.jpg", "d.jpg"]
    assert [category["name"] for category in converted.content["categories"]] == ["Knife", "scissors"]
    found = annotations_of(converted, "train/train_image/a.jpg")
    assert [(one["category_id"], one["bbox"]) for one in found] == [(2, [10, 20, 20, 20]), (1, [0, 0, 5, 5])]
    assert "left out, as their images are not there: 1 listed name, e.g. ['gone']" in converted.summary()
    assert len(convert("opixray", str(tmp_path)).content["images"]) == 4
    (labels / "c.txt").write_text("c.jpg Knife 1 2 three 4\n")
    with pytest.raises(UserError, match=r"c\.jpg Knife 1 2 three 4: no `name class x1 y1 x2 y2`"):
        convert("opixray", str(tmp_path))


def test_a_table_tells_empty_bags_and_those_whose_items_no_label_shows(tmp_path):
    for name in ("P1", "P2", "N1", "other"):
        write_image(tmp_path / "JPEGImage" / f"{name}.jpg")
    write_voc(tmp_path / "Annotation/P1.xml", voc_object("Gun", (0, 0, 9, 9)))
    table = tmp_path / "train.csv"
    table.write_text("name,Gun,Knife\nP1,1,-1\nP2,-1,1\nN1,-1,-1\n")
    converted = convert("voc", str(tmp_path), zero_based=True, image_list=str(table))
    assert [image["file_name"] for image in converted.content["images"]] == ["N1.jpg", "P1.jpg"]
    assert "tells of items that no label shows: 1 image, e.g. P2.jpg" in converted.summary()


def test_a_list_of_other_images_and_a_new_name_for_no_class_are_refused(tmp_path):
    write_image(tmp_path / "a.png")
    write_voc(tmp_path / "a.xml", voc_object("Gun", (1, 1, 9, 9)))
    (tmp_path / "names.txt").write_text("b\nc\n")
    with pytest.raises(UserError, match="none of the 2 listed images is in"):
        convert("voc", str(tmp_path), image_list=str(tmp_path / "names.txt"))
    with pytest.raises(UserError, match="can't be read as a list of images"):
        convert("voc", str(tmp_path), image_list=str(tmp_path / "no.txt"))
    with pytest.raises(UserError, match="no class gun that could be renamed") as error:
        convert("voc", str(tmp_path), rename={"gun": "weapon"})
    assert "Gun" in error.value.fix


CVAT = """<annotations><image id="0" name="1.png" width="40" height="30">
<mask label="gun" left="5" top="5" width="2" height="2" rle="0,4" group_id="1"/>
<polygon label="gun" points="{value},1;9,1;9,9" group_id="1"/></image></annotations>"""
SIDES = '"x": {value}, "y": 1, "width": 5, "height": 5'
LABEL_STUDIO = (
    '[{{"data": {{"image": "1.png"}}, "annotations": [{{"result": [{{"type": "rectanglelabels", '
    '"original_width": 40, "original_height": 30, "value": {{"rectanglelabels": ["gun"], ' + SIDES + "}}}}]}}]}}]"
)


VOC_BOX = """<annotation><object><name>gun</name><bndbox><xmin>{value}</xmin><ymin>1</ymin><xmax>9</xmax>
<ymax>9</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize(
    ("source_format", "file", "text"),
    [
        ("cvat", "labels.xml", CVAT),
        ("label_studio", "labels.json", LABEL_STUDIO),
        ("opixray", "1.txt", "1.png gun {value} 1 9 9\n"),
        ("voc", "1.xml", VOC_BOX),
    ],
)
def test_numbers_that_are_no_coordinates_are_refused(tmp_path, source_format, file, text):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (tmp_path / file).write_text(text.format(value=1))
    assert len(convert(source_format, str(tmp_path)).content["annotations"]) == 1
    values = {"cvat": ("nan", "inf", "1e300"), "label_studio": ("NaN", "Infinity", "1e300")}
    for value in values.get(source_format, ("nan", "inf", "1e300")):
        (tmp_path / file).write_text(text.format(value=value))
        with pytest.raises(UserError, match="1 fault in the labels"):
            convert(source_format, str(tmp_path))


def test_tasks_that_nobody_has_labelled_are_no_clean_bags(tmp_path):
    region = json.loads(LABEL_STUDIO.format(value=1))[0]["annotations"][0]["result"]
    prediction = [{"result": region}]
    tasks = {
        "labelled": {"annotations": [{"was_cancelled": True, "result": []}, {"result": region}]},
        "clean": {"annotations": [{"result": []}], "predictions": prediction},
        "predicted": {"annotations": [], "predictions": prediction},
        "cancelled": {"annotations": [{"was_cancelled": True, "result": region}], "predictions": prediction},
        "waiting": {"annotations": [], "predictions": []},
        "new": {},
    }
    for name in tasks:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((30, 40), 200, np.uint8))
    file = tmp_path / "labels.json"
    file.write_text(json.dumps([{"data": {"image": f"{name}.png"}, **task} for name, task in tasks.items()]))
    converted = convert("label_studio", str(tmp_path))
    found = {image["id"]: image["file_name"] for image in converted.content["images"]}
    assert sorted(found.values()) == ["clean.png", "labelled.png", "predicted.png"]
    assert sorted(found[a["image_id"]] for a in converted.content["annotations"]) == ["labelled.png", "predicted.png"]
    assert "nobody has labelled them or the task was cancelled: 3 images, e.g. cancelled.png" in converted.summary()
    file.write_text(json.dumps([{"data": {"image": f"{name}.png"}, "annotations": []} for name in tasks]))
    with pytest.raises(UserError, match="no task is labelled, of 6 images"):
        convert("label_studio", str(tmp_path))


@pytest.mark.parametrize(
    "task",
    [
        {"annotations": None},
        {"annotations": {}},
        {"annotations": ["x"]},
        {"annotations": [{"result": None}]},
        {"annotations": [{"result": ["x"]}]},
        {"annotations": [{}]},
        {"predictions": "x"},
        None,
    ],
)
def test_tasks_of_another_form_are_refused(tmp_path, task):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    tasks = [] if task is None else [{"data": {"image": "1.png"}, **task}]
    (tmp_path / "labels.json").write_text(json.dumps(tasks))
    with pytest.raises(UserError, match="1 fault in the labels"):
        convert("label_studio", str(tmp_path))


RECTANGLE = {"label": "gun", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}


@pytest.mark.parametrize(
    ("source_format", "file", "text"),
    [
        ("cvat", "labels.xml", CVAT.format(value=1).replace('width="40" height="30"', 'width="99999" height="99999"')),
        ("voc", "1.xml", VOC_BOX.format(value=1).replace(
            "<object>", "<size><width>99999</width><height>99999</height></size><object>"
        )),
        ("labelme", "1.json", json.dumps({"shapes": [RECTANGLE], "imageWidth": 99999, "imageHeight": 99999})),
        ("label_studio", "labels.json", LABEL_STUDIO.format(value=1).replace('width": 40', 'width": 1000000000')),
    ],
)  # fmt: skip
def test_a_size_that_no_image_has_is_refused_before_a_mask_is_made_of_it(tmp_path, source_format, file, text):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match="larger than any that can be read"):
        convert(source_format, str(tmp_path))


def written(tmp_path, source_format, shape):
    """The only annotation of an image of 40x30 with one shape."""
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    if source_format == "cvat":
        text = f'<annotations><image id="0" name="1.png" width="40" height="30">{shape}</image></annotations>'
        (tmp_path / "labels.xml").write_text(text)
    else:
        (task,) = json.loads(LABEL_STUDIO.format(value=1))
        task["annotations"][0]["result"][0] |= {
            "type": next(key for key in shape if key.endswith("labels")),
            "value": shape,
        }
        (tmp_path / "labels.json").write_text(json.dumps([task]))
    (annotation,) = convert(source_format, str(tmp_path)).content["annotations"]
    return annotation


@pytest.mark.parametrize(
    ("source_format", "shape", "corners"),
    [
        # around its middle, and around its first corner
        (
            "cvat",
            '<box label="gun" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90"/>',
            [(17, 7), (17, 17), (13, 17), (13, 7)],
        ),
        (
            "label_studio",
            {"rectanglelabels": ["gun"], "x": 25, "y": 10, "width": 25, "height": 20, "rotation": 90},
            [(10, 3), (10, 13), (4, 13), (4, 3)],
        ),
    ],
)
def test_turned_boxes_become_polygons(tmp_path, source_format, shape, corners):
    (outline,) = written(tmp_path, source_format, shape)["segmentation"]
    assert np.reshape(outline, (-1, 2)).tolist() == [pytest.approx(corner, abs=0.01) for corner in corners]


@pytest.mark.parametrize("degrees", [0, 30, 90])
@pytest.mark.parametrize("source_format", ["cvat", "label_studio"])
def test_ellipses_become_polygons_within_a_tenth_of_a_pixel(tmp_path, source_format, degrees):
    shape = f'<ellipse label="gun" cx="20" cy="15" rx="12" ry="6" rotation="{degrees}"/>'
    if source_format == "label_studio":
        shape = {"ellipselabels": ["gun"], "x": 50, "y": 50, "radiusX": 30, "radiusY": 20, "rotation": degrees}
    annotation = written(tmp_path, source_format, shape)
    points = np.reshape(annotation["segmentation"][0], (-1, 2)) - (20, 15)
    # along the axes of the ellipse, clockwise where y goes down
    angle = np.deg2rad(degrees)
    along, across = points @ [np.cos(angle), np.sin(angle)] / 12, points @ [-np.sin(angle), np.cos(angle)] / 6
    assert np.hypot(along, across) == pytest.approx(1, abs=0.01)
    assert annotation["area"] == pytest.approx(np.pi * 12 * 6, rel=0.02)


@pytest.mark.parametrize(
    "shape", ['<ellipse label="gun" cx="9" cy="9" rx="0" ry="6"/>', '<ellipse label="gun" cx="9"/>']
)
def test_an_ellipse_without_radii_is_a_fault(tmp_path, shape):
    with pytest.raises(UserError, match="1 fault in the labels"):
        written(tmp_path, "cvat", shape)


@pytest.mark.parametrize(
    "change",
    [
        {"meta": [1]},
        {"type": ["x"]},
        {"parentID": ["a"]},
        {"image_rotation": 90},
        {"value": [1]},
        {"value": {"x": 50, "y": 50, "width": -20, "height": 20, "rectanglelabels": ["gun"]}},
        {"data": {"image": "http://[bad/1.png"}},
    ],
)
def test_a_region_that_is_not_as_label_studio_writes_it_is_a_fault(tmp_path, change):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (task,) = json.loads(LABEL_STUDIO.format(value=1))
    if "data" in change:
        task |= change
    else:
        task["annotations"][0]["result"][0] |= change
    (tmp_path / "labels.json").write_text(json.dumps([task]))
    with pytest.raises(UserError, match="1 fault in the labels"):
        convert("label_studio", str(tmp_path))


def test_regions_of_an_image_that_state_different_sizes_are_a_fault(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (task,) = json.loads(LABEL_STUDIO.format(value=1))
    (region,) = task["annotations"][0]["result"]
    task["annotations"][0]["result"].append(region | {"original_width": 80, "original_height": 60})
    (tmp_path / "labels.json").write_text(json.dumps([task]))
    with pytest.raises(UserError, match="an image of 80x60, and of 40x30 in the regions before"):
        convert("label_studio", str(tmp_path))


def test_the_note_of_a_crowd_may_be_a_text_alone(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (task,) = json.loads(LABEL_STUDIO.format(value=1))
    for note, is_crowd in (("crowd", 1), ("crowded", 0), (["crowd"], 1)):
        task["annotations"][0]["result"][0] |= {"id": ["a"], "meta": {"text": note}}
        (tmp_path / "labels.json").write_text(json.dumps([task]))
        assert [one["iscrowd"] for one in convert("label_studio", str(tmp_path)).content["annotations"]] == [is_crowd]


def test_a_shape_type_of_labelme_that_is_no_text_is_a_fault(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (tmp_path / "1.json").write_text(json.dumps({"shapes": [RECTANGLE | {"shape_type": ["x"]}]}))
    with pytest.raises(UserError, match=r"shape_type .* is unknown"):
        convert("labelme", str(tmp_path))


@pytest.mark.parametrize("outline", ["", "<x1>8</x1><y1>8</y1>", "<x1>8</x1><y1>8</y1><x2>9</x2><y2>9</y2>"])
def test_a_polygon_of_voc_of_fewer_than_3_points_is_a_fault(tmp_path, outline):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((30, 40), 200, np.uint8))
    (tmp_path / "1.xml").write_text(
        VOC_BOX.format(value=1).replace("<bndbox>", f"<polygon>{outline}</polygon><bndbox>")
    )
    with pytest.raises(UserError, match="a polygon of fewer than 3 points"):
        convert("voc", str(tmp_path))
