"""Each kind of fault is found, with the right ids; a sound set has none."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_examples import SIZE, SQUARE, instance, sound_set, write_images
from PIL import Image
from pycocotools import mask as pycocotools_mask

from xray_lazy.data.check import CocoSet, check_sets, open_sets
from xray_lazy.data.check.decoder_remarks import kept_stderr, take_remarks
from xray_lazy.data.check.kinds import ERROR, KINDS, SEVERITIES
from xray_lazy.data.label_export import require_class_names
from xray_lazy.errors import UserError

WIDTH, HEIGHT = SIZE


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images")


def found(content: dict, folder=None) -> dict[str, list]:
    """The ids of every kind of fault."""
    report = check_sets([CocoSet("set", content, folder)], read_images=folder is not None)
    kinds: dict[str, list] = {}
    for finding in report.sets[0].findings:
        kinds.setdefault(finding.kind, []).append(finding.id)
    return kinds


def with_instance(**changes) -> dict:
    content = sound_set()
    content["annotations"].append(instance(9, **{"category_id": 2, **changes}))
    return content


def rle(width=WIDTH, height=HEIGHT, text=True, filled=True) -> dict:
    bitmap = np.zeros((height, width), np.uint8, order="F")
    if filled:
        bitmap[10:30, 10:30] = 1
    encoded = pycocotools_mask.encode(bitmap)
    if text:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat = np.flatnonzero(np.diff(np.concatenate(([0], bitmap.ravel(order="F"), [0]))))
    return {"size": [height, width], "counts": np.diff([0, *flat.tolist(), height * width]).tolist()}


def test_sound_set_has_no_findings(folder):
    assert found(sound_set(), folder) == {}


def test_every_kind_says_how_bad_it_is_and_how_to_fix_it():
    for kind in KINDS.values():
        assert kind.severity in SEVERITIES
        assert kind.title and kind.fix


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"image_id": 77}, "instance_without_picture"),
        ({"image_id": "one"}, "instance_without_picture"),
        ({"category_id": 77}, "undeclared_class"),
        ({"image_id": "1"}, "number_as_text"),
        ({"area": "400"}, "number_as_text"),
        ({"bbox": ["10", 10, 20, 20]}, "number_as_text"),
        ({"iscrowd": 1}, "crowd"),
        ({"iscrowd": True}, "iscrowd_value"),
        ({"iscrowd": None}, "iscrowd_value"),
        ({"bbox": None}, "box_missing"),
        ({"bbox": [1, 2, 3]}, "box_malformed"),
        ({"bbox": [1, 2, 3, float("nan")]}, "box_malformed"),
        ({"bbox": [1, 2, 3, float("inf")]}, "box_malformed"),
        ({"bbox": [1, 2, 3, "wide"]}, "box_malformed"),
        ({"bbox": [10, 10, 0, 20]}, "box_empty"),
        ({"bbox": [10, 10, 20, -5]}, "box_empty"),
        ({"bbox": [WIDTH, 10, 20, 20]}, "box_outside"),
        ({"bbox": [-30, 10, 20, 20]}, "box_outside"),
        ({"bbox": [50, 10, 20, 20], "segmentation": None}, "box_beyond"),
        ({"bbox": [20, 10, 20, 20]}, "box_differs"),
        ({"segmentation": None}, "mask_missing"),
        ({"segmentation": []}, "mask_missing"),
        ({"segmentation": "10 10 30 10"}, "mask_malformed"),
        ({"segmentation": SQUARE}, "polygon_flat"),
        ({"segmentation": [[SQUARE]]}, "polygon_nested"),
        ({"segmentation": {"size": [float(HEIGHT), WIDTH], "counts": rle()["counts"]}}, "number_as_text"),
        ({"segmentation": [SQUARE, ["a"] * 6]}, "polygon_malformed"),
        ({"segmentation": [SQUARE, [float("nan")] * 6]}, "polygon_malformed"),
        ({"segmentation": [[10, 10, 30, 10, 30]]}, "polygon_odd"),
        ({"segmentation": [[10, 10, 30, 10]]}, "polygon_short"),
        ({"segmentation": [[]]}, "polygon_short"),
        ({"segmentation": [[10, 10, 20, 20, 30, 30]]}, "polygon_flattened"),
        ({"segmentation": [SQUARE, [-9, 1, -4, 1, -4, 9]]}, "polygon_outside"),
        ({"segmentation": [SQUARE, [50, 40, 70, 40, 60, 47]]}, "polygon_beyond"),
        ({"segmentation": {"counts": "abc"}}, "rle_invalid"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "~~~~"}}, "rle_invalid"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2, 3]}}, "rle_invalid"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [WIDTH * HEIGHT + 5, -5]}}, "rle_invalid"),
        ({"segmentation": rle(filled=False)}, "rle_empty"),
        ({"segmentation": rle(HEIGHT, WIDTH)}, "rle_size"),
        ({"area": None}, "area_missing"),
        ({"area": float("nan")}, "area_missing"),
        ({"area": -4}, "area_missing"),
        ({"area": 900}, "area_differs"),
        ({"area": 100}, "area_differs"),
        ({"area": 900, "segmentation": None}, "area_differs"),
    ],
)
def test_fault_of_an_instance_is_found(changes, kind):
    kinds = found(with_instance(**changes))
    assert kinds.pop(kind) == [9]
    # one fault is told once, and nothing that only follows from it
    assert set(kinds) <= {"mask_missing"}


@pytest.mark.parametrize("text", [True, False])
def test_sound_rle_is_accepted(text):
    assert found(with_instance(category_id=2, segmentation=rle(text=text))) == {}


def test_bow_tie_has_an_area_although_its_outline_cancels_out():
    bow_tie = [10, 10, 30, 30, 30, 10, 10, 30]
    kinds = found(with_instance(segmentation=[bow_tie], area=200))
    assert kinds == {}


@pytest.mark.parametrize("area", [361, 400, 441])
def test_area_by_any_pixel_convention_is_accepted(area):
    assert found(with_instance(area=area)) == {}


def test_ids_of_instances():
    content = sound_set()
    content["annotations"] += [
        instance(3, 1, 2),
        instance(0, 2, 1),
        instance(None, 3, 2),
        instance(20, 1, 1),
    ]
    kinds = found(content)
    assert kinds == {
        "duplicate_instance_id": [3],
        "instance_id_zero": [0],
        "instance_id_missing": ["#5"],
        "duplicate_instance": [20],
    }


@pytest.mark.parametrize(
    ("categories", "kind", "ids"),
    [
        ([{"id": 1, "name": "gun"}, {"id": 5, "name": "knife"}], "class_id_gap", [5]),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}, {"id": 2, "name": "saw"}], "duplicate_class_id", [2]),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}, {"id": 2, "name": "knife"}], "duplicate_class_id", [2]),
        ([{"id": -1, "name": "saw"}, *sound_set()["categories"]], "class_id_no_number", [-1]),
        ([{"id": "/m/04ctx", "name": "saw"}, *sound_set()["categories"]], "class_id_no_number", ["/m/04ctx"]),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": "gun"}], "duplicate_class_name", [2]),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": " Gun"}], "similar_class_names", [2]),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}, {"name": "saw"}], "class_fields", ["#2"]),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": ""}], "class_fields", [2]),
        (
            [{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}, {"id": 3, "name": "saw"}],
            "class_not_trained",
            [3],
        ),
        ([{"id": 1, "name": "gun"}, {"id": 2, "name": "knife"}, None], "not_an_entry", ["categories#2"]),
        ([{"id": "1", "name": "gun"}, {"id": 2.0, "name": "knife"}], "number_as_text", [1, 2]),
        ([], "no_classes", [None]),
    ],
)
def test_fault_of_the_classes_is_found(categories, kind, ids):
    assert found({**sound_set(), "categories": categories})[kind] == ids


def test_a_set_of_crowd_regions_can_not_be_trained_on():
    content = sound_set()
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    assert found(content)["nothing_to_train"] == [None]
    assert not check_sets([CocoSet("set", content)]).trainable


def test_a_class_of_crowd_regions_alone_can_not_be_trained():
    content = sound_set()
    content["annotations"][1]["iscrowd"] = 1
    assert found(content)["class_not_trained"] == [2]


def test_annotations_that_belong_to_no_image_are_nothing_to_train():
    content = sound_set()
    for entry in content["annotations"]:
        entry["image_id"] += 100
    assert found(content)["nothing_to_train"] == [None]


def test_a_class_that_a_set_for_evaluation_lacks_is_no_error():
    lacking = {**sound_set(), "annotations": sound_set()["annotations"][:1]}
    alone = check_sets([CocoSet("a", lacking, json_file=Path("val.json"))])
    assert alone.trainable and "class_without_instances" in {f.kind for f in alone.sets[0].findings}
    beside = check_sets([CocoSet("a", sound_set()), CocoSet("b", lacking)])
    assert beside.trainable and "class_without_instances" in {f.kind for f in beside.sets[1].findings}
    assert not check_sets([CocoSet("a", lacking), CocoSet("b", lacking)]).trainable


@pytest.mark.parametrize("shift", [-1, 1])
def test_class_ids_that_are_shifted_are_named_as_such(shift):
    content = sound_set()
    for entry in content["annotations"]:
        entry["category_id"] += shift
    assert found(content) == {"class_ids_shifted": [None]}


@pytest.mark.parametrize(
    "ids", [["Pa", "Pb", "Pc"], ["1", "01", "2"], [2**70, 2**53 + 1, 5], ["x", 1, 2.0], [2**53, 2**53 + 1, 1]]
)
def test_ids_that_training_takes_are_no_error(ids):
    content = with_image_ids(ids)
    assert found(content).keys() == {"id_no_number"}
    report = check_sets([CocoSet("set", content)])
    assert report.trainable
    odd = [id for id in ids if not isinstance(id, int) or id > 2**53]
    assert [f.id for f in report.sets[0].findings if f.of == "image" and str(f.id) not in map(str, odd)] == []


def test_ids_that_only_spell_each_other_are_an_error():
    content = sound_set()
    for image in content["images"]:
        image["id"] = str(image["id"])
    assert found(content) == {"number_as_text": [1, 2, 3]}


def test_names_of_classes_may_be_numbers():
    content = sound_set()
    content["categories"][0]["name"] = 7
    assert found(content) == {"class_name_no_text": [1]}


@pytest.mark.parametrize("name", [" gun", "g\nun", "g\x1bun", "g\udc80un"])
def test_a_name_that_export_refuses_is_told_in_its_words(name):
    content = sound_set()
    content["categories"][0]["name"] = name
    assert found(content) == {"class_name_odd": [1]}
    with pytest.raises(UserError, match=KINDS["class_name_odd"].title):
        require_class_names([name])


def with_image_ids(ids):
    content = sound_set()
    for image, annotation, id in zip(content["images"], content["annotations"], ids, strict=True):
        image["id"] = annotation["image_id"] = id
    return content


def test_classes_from_zero_have_no_gap():
    content = sound_set()
    for entry in content["categories"]:
        entry["id"] -= 1
    for entry in content["annotations"]:
        entry["category_id"] -= 1
    assert found(content) == {}


@pytest.mark.parametrize(
    ("entry", "kind", "ids"),
    [
        ({"id": 4, "file_name": "4.png"}, "size_missing", [4]),
        ({"id": 4, "file_name": "4.png", "width": 0, "height": 0}, "size_missing", [4]),
        ({"id": 4, "file_name": "4.png", "width": -3, "height": "tall"}, "size_missing", [4]),
        ({"id": 4, "file_name": "4.png", "width": "64", "height": 48.0}, "number_as_text", [4]),
        ({"id": 3, "file_name": "4.png", "width": 64, "height": 48}, "duplicate_picture_id", [3]),
        ({"id": 4, "file_name": "./3.png", "width": 64, "height": 48}, "duplicate_file_name", [4]),
        ({"id": 4, "width": 64, "height": 48}, "picture_fields", [4]),
        ({"id": None, "file_name": "4.png", "width": 64, "height": 48}, "picture_fields", ["#3"]),
        ({"id": 4, "file_name": "4.png", "width": 64, "height": 48}, "picture_without_annotations", [4]),
        ([4, "4.png"], "not_an_entry", ["images#3"]),
    ],
)
def test_fault_of_a_image_entry_is_found(entry, kind, ids):
    content = sound_set()
    content["images"].append(entry)
    assert found(content)[kind] == ids


def test_empty_lists_are_errors():
    kinds = found({"images": [], "annotations": [], "categories": []})
    assert set(kinds) == {"no_pictures", "no_instances", "no_classes"}


def test_sizes_are_compared_with_the_files(folder):
    content = sound_set()
    content["images"][0].update(width=0, height=0)
    content["images"][1].update(width=100)
    assert found(content, folder) == {"size_missing": [1], "size_differs": [2]}


def test_size_before_the_exif_turn_is_told_apart(folder):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(folder / "2.png").save(folder / "2.png", exif=exif)  # stored 64 x 48, upright 48 x 64
    assert found(sound_set(), folder) == {"size_turned": [2]}


@pytest.mark.parametrize(("bits", "is_dark"), [(8, True), (12, True), (15, True), (16, False)])
def test_a_image_of_16_bits_that_uses_the_lower_ones_is_told(folder, bits, is_dark):
    values = np.linspace(0, 2**bits - 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    cv2.imwrite(str(folder / "2.png"), values)
    kinds = found(sound_set(), folder)
    assert kinds == ({"picture_dark": [2]} if is_dark else {})


def test_a_few_pixels_of_full_value_do_not_hide_that_the_others_are_dark(folder):
    values = np.linspace(0, 4095, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
    values[:2, :5] = 65535
    cv2.imwrite(str(folder / "2.png"), values)
    (told,) = check_sets([CocoSet("set", sound_set(), folder)]).sets[0].findings
    assert told.kind == "picture_dark" and "4095 in 16 bits, but for 10 pixels: the model sees 0 to 15" in told.detail


def test_a_damaged_jpeg_that_can_be_read_is_named_and_leaves_no_line_without_a_name(folder, capfd):
    content = sound_set()
    image = cv2.imread(str(folder / "2.png"))
    data = cv2.imencode(".jpg", image)[1].tobytes()
    first_table = data.index(b"\xff\xdb")
    (folder / "2.png").write_bytes(data[:first_table] + b"\0\1\2" + data[first_table:])
    assert found(content, folder) == {"picture_damaged": [2]}
    assert "Corrupt JPEG" not in capfd.readouterr().err


def test_what_others_say_while_images_are_read_is_passed_on(capfd):
    with kept_stderr() as kept:
        os.write(2, b"a line of something else\n")
        assert take_remarks(kept, []) == {}
    assert capfd.readouterr().err == "a line of something else\n"


def test_images_that_differ_in_their_lower_bits_are_not_the_same(folder):
    for name, value in (("1.png", 50), ("2.png", 90), ("3.png", 90)):
        cv2.imwrite(str(folder / name), np.full((HEIGHT, WIDTH), value, np.uint16))
    assert found(sound_set(), folder)["copy_labelled_otherwise"] == [3]


def test_image_that_was_scaled_after_annotation_is_a_conflict(folder):
    write_images(folder, ["2.png"], (128, 96), seed=5)
    content = sound_set()
    assert found(content, folder) == {"size_conflict": [2]}
    write_images(folder, ["2.png"], (25, 20), seed=5)
    # the boxes lie outside the smaller file, but the file is the odd one: nothing is said of the boxes
    assert found(content, folder) == {"size_conflict": [2]}


def test_unusable_files_are_told_apart(folder):
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes(b"GIF? no.")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:3000])
    kinds = found(sound_set(), folder)
    assert kinds == {"picture_missing": [1], "picture_unreadable": [2], "picture_truncated": [3]}


def test_a_file_of_several_pages_has_a_kind_of_its_own(folder):
    image = Image.open(folder / "2.png")
    image.save(folder / "2.png", "TIFF", save_all=True, append_images=[image])
    assert found(sound_set(), folder) == {"picture_pages": [2]}


@pytest.mark.parametrize("size", [(2, 3000), (3000, 2)])
def test_a_image_that_resizing_leaves_nothing_of_is_told(folder, size):
    write_images(folder, ["3.png"], size, seed=5)
    content = sound_set()
    content["images"][2].update(width=size[0], height=size[1])
    assert found(content, folder)["picture_thin"] == [3]


def test_same_pixels_under_another_name_and_format_are_found(folder):
    cv2.imwrite(str(folder / "3.bmp"), cv2.imread(str(folder / "1.png")))
    content = sound_set()
    content["images"][2]["file_name"] = "3.bmp"
    assert found(content, folder) == {"duplicate_picture": [3], "unlisted_picture": ["3.png"]}


def test_leak_between_sets_is_found_by_content(tmp_path, folder):
    other = write_images(tmp_path / "valid", ["a.png", "b.png"], seed=9)
    (other / "c.png").write_bytes((folder / "2.png").read_bytes())
    content = sound_set()
    for entry, name in zip(content["images"], "abc", strict=True):
        entry["file_name"] = f"{name}.png"
    report = check_sets([CocoSet("train", sound_set(), folder), CocoSet("val", content, other)])
    assert report.sets[0].findings == []
    (leak,) = report.sets[1].findings
    assert (leak.kind, leak.id) == ("picture_in_two_sets", 3)
    assert "c.png is 2.png (id 2) of train" in leak.detail


def test_leak_between_two_jsons_of_one_folder_is_found_without_reading(folder):
    sets = [CocoSet(name, sound_set(), folder) for name in ("train", "val")]
    report = check_sets(sets, read_images=False)
    assert [finding.id for finding in report.sets[1].findings] == [1, 2, 3]
    assert {finding.kind for finding in report.sets[1].findings} == {"picture_in_two_sets"}


def test_sets_of_other_classes_are_told():
    other = sound_set()
    other["categories"][1]["name"] = "saw"
    report = check_sets([CocoSet("a", sound_set()), CocoSet("b", other)], read_images=False)
    (finding,) = report.sets[1].findings
    assert finding.kind == "classes_differ" and "knife, saw" in finding.detail


def test_set_of_boxes_only_can_be_trained_on():
    content = sound_set()
    for entry in content["annotations"]:
        del entry["segmentation"]
    report = check_sets([CocoSet("boxes", content)], read_images=False)
    assert {finding.kind for finding in report.sets[0].findings} == {"box_only"}
    assert report.trainable


def test_report_as_json_holds_every_id_and_the_fix():
    content = sound_set()
    content["annotations"] += [instance(100 + n, image_id=77) for n in range(50)]
    report = check_sets([CocoSet("set", content)], read_images=False)
    told = json.loads(json.dumps(report.as_json()))
    assert told["trainable"] is False and told["counts"]["error"] == 50
    (fault,) = told["sets"][0]["faults"]
    assert fault["kind"] == "instance_without_picture" and fault["severity"] == ERROR and fault["fix"]
    assert [item["id"] for item in fault["items"]] == list(range(100, 150))


def test_check_leaves_the_content_as_it_is():
    content = with_instance(image_id="1", bbox=[-30, 10, 90, 20], segmentation=SQUARE, iscrowd=None)
    before = json.dumps(content)
    check_sets([CocoSet("set", content)], read_images=False)
    assert json.dumps(content) == before


def test_sets_are_opened_by_name_and_by_pair(tmp_path, folder):
    for split, part in (("train", "train"), ("val", "valid")):
        path = tmp_path / "root/annotations/smith" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(sound_set()))
        write_images(tmp_path / "root/images/smith" / part)
    pair = str(tmp_path / "root/annotations/smith/train.json")
    sets = open_sets(["xray_smith_train", pair, str(folder), "xray_smith_val"], str(tmp_path / "root"))
    assert [one.name for one in sets] == ["xray_smith_train", pair, "xray_smith_val"]
    assert sets[1].images_dir == folder


def test_json_without_its_folder_is_refused_unless_images_are_left_out(tmp_path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(sound_set()))
    with pytest.raises(UserError, match="folder of its images"):
        open_sets([str(path)])
    assert open_sets([str(path)], images=False)[0].images_dir is None


def test_annotations_of_a_class_without_a_name_are_not_called_undeclared():
    content = sound_set()
    content["categories"][0]["name"] = None
    (report,) = check_sets([CocoSet("set", content)], read_images=False).sets
    assert [finding.kind for finding in report.findings if finding.of == "instance"] == []
    assert "class_fields" in {finding.kind for finding in report.findings}
