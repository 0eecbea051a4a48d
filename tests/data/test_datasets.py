"""COCO files become detectron2 dataset dicts."""

import json

import pytest
from detectron2.structures import BoxMode

from tests.data.coco_sets import reference, write_set
from xray_lazy.data.check.coco_set import open_sets
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.dataset_places import available_datasets, default_root, find_source
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.repair import repair
from xray_lazy.errors import UserError


def test_category_ids_with_gaps_become_contiguous(tmp_path):
    write_set(tmp_path, classes=("gun", "knife", "bottle"))
    dataset = load_datasets(reference(tmp_path))
    assert dataset.category_ids == (1, 3, 5) and dataset.class_names == ("gun", "knife", "bottle")
    assert [a["category_id"] for record in dataset for a in record["annotations"]] == [0, 1, 2]
    assert dataset[0]["annotations"][0]["bbox_mode"] == BoxMode.XYWH_ABS


def test_sizes_of_zero_are_read_from_the_images(tmp_path):
    content = write_set(tmp_path, size=(70, 50))
    for image in content["images"]:
        image["width"] = image["height"] = 0
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert {(r["width"], r["height"]) for r in load_datasets(reference(tmp_path))} == {(70, 50)}


def test_a_image_without_a_size_that_can_not_be_read_is_named_with_the_reason(tmp_path):
    content = write_set(tmp_path)
    content["images"][1].pop("width")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images" / "bag_1.png").write_text("text")
    with pytest.raises(UserError, match=r"can't be read, e\.g\. .*bag_1\.png is not an image"):
        load_datasets(reference(tmp_path))


def test_empty_bags_stay_unless_they_are_filtered(tmp_path):
    write_set(tmp_path, count=8)
    assert len(load_datasets(reference(tmp_path))) == 8
    assert len(load_datasets(reference(tmp_path), filter_empty=True)) == 6


def names_of(dataset):
    return [record["file_name"] for record in dataset]


def test_a_fraction_is_spread_evenly_or_drawn_by_seed(tmp_path):
    write_set(tmp_path / "bags", count=20)
    where = reference(tmp_path / "bags")
    whole = names_of(load_datasets(where))
    assert names_of(load_datasets(where, fraction=0.2)) == [whole[place] for place in (0, 6, 13, 19)]
    drawn = [load_datasets(where, fraction=0.25, seed=seed) for seed in (0, 0, 1)]
    assert names_of(drawn[0]) == names_of(drawn[1]) != names_of(drawn[2])
    assert len(drawn[0]) == 5 and names_of(drawn[0]) == sorted(names_of(drawn[0]), key=whole.index)
    smaller = load_datasets(where, max_pictures=3, seed=0)
    assert len(smaller) == 3 and set(names_of(smaller)) < set(names_of(drawn[0]))


def test_the_name_of_a_part_tells_that_it_is_one(tmp_path):
    write_set(tmp_path / "bags", count=8)
    where = reference(tmp_path / "bags")
    assert load_datasets(where, fraction=0.5).name == "bags_4of8"
    assert load_datasets(where, fraction=0.01, max_pictures=5).name == "bags_1of8"
    assert load_datasets(where, max_pictures=9).name == "bags"


@pytest.mark.parametrize("part", [{"fraction": 0.0}, {"fraction": 1.1}, {"max_pictures": 0}])
def test_a_part_that_is_none_is_refused(tmp_path, part):
    write_set(tmp_path)
    with pytest.raises(UserError, match=r"fraction|max_pictures"):
        load_datasets(reference(tmp_path), **part)


def test_records_tell_their_data_set(tmp_path):
    write_set(tmp_path / "a")
    write_set(tmp_path / "b")
    joined = load_datasets([reference(tmp_path / "a"), reference(tmp_path / "b")])
    assert [record["dataset_name"] for record in joined] == ["a"] * 4 + ["b"] * 4


def test_sets_are_joined_by_class_name_with_unique_image_ids(tmp_path):
    write_set(tmp_path / "a", classes=("gun", "knife"))
    write_set(tmp_path / "b", classes=("knife", "gun"))
    joined = load_datasets([reference(tmp_path / "a"), reference(tmp_path / "b")])
    assert joined.name == "a+b" and len({record["image_id"] for record in joined}) == 8
    names = [joined.class_names[a["category_id"]] for record in joined for a in record["annotations"]]
    assert names == ["gun", "knife", "gun", "knife", "gun", "knife"]
    assert len({a["id"] for record in joined for a in record["annotations"]}) == 6


def test_joining_sets_does_not_change_them(tmp_path):
    write_set(tmp_path / "a")
    write_set(tmp_path / "b")
    before = [record["image_id"] for record in load_datasets(reference(tmp_path / "a"))]
    load_datasets([reference(tmp_path / "a"), reference(tmp_path / "b")])
    assert [record["image_id"] for record in load_datasets(reference(tmp_path / "a"))] == before


def test_sets_with_other_classes_are_not_joined(tmp_path):
    write_set(tmp_path / "a", classes=("gun", "knife"))
    write_set(tmp_path / "b", classes=("gun", "scissors"))
    with pytest.raises(UserError, match="knife, scissors"):
        load_datasets([reference(tmp_path / "a"), reference(tmp_path / "b")])


def test_names_are_found_in_the_layout_of_the_sets(tmp_path):
    root = tmp_path / "root"
    write_set(tmp_path / "export")
    (root / "annotations" / "smith").mkdir(parents=True)
    (root / "images" / "smith").mkdir(parents=True)
    (tmp_path / "export" / "annotations.json").rename(root / "annotations" / "smith" / "val.json")
    (tmp_path / "export" / "images").rename(root / "images" / "smith" / "valid")
    assert available_datasets(str(root)) == ["xray_smith_val"]
    assert len(load_datasets("xray_smith_val", str(root))) == 4


def test_a_missing_set_is_an_error_that_lists_those_there_are(tmp_path):
    (tmp_path / "annotations" / "smith").mkdir(parents=True)
    (tmp_path / "annotations" / "smith" / "val.json").write_text("{}")
    with pytest.raises(UserError) as error:
        find_source("xray_smith_train", str(tmp_path))
    assert "train.json" in error.value.message and "xray_smith_val" in error.value.fix


@pytest.mark.parametrize("name", ["smith_train", "xray_smith", "xray_smith_training", "xray__train", ""])
def test_other_forms_of_names_are_refused(name, tmp_path):
    with pytest.raises(UserError, match="not the name"):
        find_source(name, str(tmp_path))


@pytest.mark.parametrize(
    ("image_id", "why"),
    [
        (lambda id: str(id) if id % 2 else id, "in another form"),
        (lambda id: f"{id}.0", "in another form"),
        (lambda id: id + 1000, "no annotation is of an image"),
        (lambda id: f"bag_{id}", "no annotation is of an image"),
    ],
)
def test_annotations_of_other_ids_are_refused_as_their_images_would_pass_for_clean_ones(tmp_path, image_id, why):
    content = write_set(tmp_path)
    for image in content["images"]:
        image["id"] = image_id(image["id"])
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=why):
        load_datasets(reference(tmp_path))


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("value", [None, 1.5, "", [1]])
def test_an_annotation_whose_id_means_nothing_is_refused_as_its_image_would_pass_for_a_clean_one(tmp_path, key, value):
    content = write_set(tmp_path)
    content["annotations"][0][key] = value
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="entry that COCO does not allow"):
        load_datasets(reference(tmp_path))


@pytest.mark.parametrize("odd", [0, 1])
def test_classes_by_ids_of_another_form_are_refused(tmp_path, odd):
    content = write_set(tmp_path)
    content["annotations"][odd]["category_id"] = str(content["annotations"][odd]["category_id"])
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"category_id '.' of an annotation is the id of one in another form"):
        load_datasets(reference(tmp_path))


def test_annotations_of_images_that_were_taken_out_are_left_out(tmp_path, caplog):
    content = write_set(tmp_path)
    write_set(tmp_path, images=content["images"][1:])
    assert len(load_datasets(reference(tmp_path))) == len(content["images"]) - 1
    assert "left out 1 annotation" in caplog.text


def test_a_set_without_images_is_refused(tmp_path):
    write_set(tmp_path, images=[], annotations=[])
    with pytest.raises(UserError, match="0 images"):
        load_datasets(reference(tmp_path))


def test_an_entry_that_is_not_coco_is_an_error_that_names_the_file(tmp_path):
    write_set(tmp_path, images=[{"id": 1}])
    with pytest.raises(UserError, match=r"annotations\.json") as error:
        load_datasets(reference(tmp_path))
    assert "check" in error.value.fix


@pytest.mark.parametrize("part", ["bbox", "weight"])
def test_a_number_beyond_all_floats_is_an_error_that_names_the_file(tmp_path, part):
    content = write_set(tmp_path)
    if part == "bbox":
        content["annotations"][0]["bbox"][0] = 10**400
    else:
        content["images"][0]["weight"] = 10**400
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="entry that COCO does not allow"):
        load_datasets(reference(tmp_path))


NO_NUMBERS = ["x", "", None, [1], {"a": 1}, float("nan"), float("inf"), 10**400, -5]
NUMBERS = [1.5, True, 1, "1"]


def _short(value) -> str:
    return str(value)[:9]


@pytest.mark.parametrize(
    ("field", "value"),
    [*(("area", value) for value in NO_NUMBERS), *(("iscrowd", value) for value in NO_NUMBERS + NUMBERS)],
    ids=_short,
)
def test_what_check_lets_pass_is_loaded_as_repair_mends_it(tmp_path, field, value):
    content = write_set(tmp_path)
    outline = [[10, 10, 30, 10, 10, 30]]
    content["annotations"][0] |= {"bbox": [10, 10, 20, 20], "segmentation": outline, "area": 7.5, field: value}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    loaded = load_datasets(reference(tmp_path))[0]["annotations"][0][field]
    (one,) = open_sets([str(tmp_path / "annotations.json")], images=False)
    assert loaded == repair(one).content["annotations"][0][field]


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1.5, True], ids=_short)
def test_a_size_that_is_none_is_read_from_the_file(tmp_path, value):
    content = write_set(tmp_path)
    sizes = [(image["width"], image["height"]) for image in content["images"]]
    content["images"][0] |= {"width": value, "height": value}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert [(record["width"], record["height"]) for record in load_datasets(reference(tmp_path))] == sizes


def test_boxes_without_area_and_undeclared_classes_are_left_out_with_a_warning(tmp_path, caplog):
    content = write_set(tmp_path)
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    content["annotations"][1]["category_id"] = 99
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = load_datasets(reference(tmp_path))
    assert sum(len(record["annotations"]) for record in dataset) == 1
    assert "left out 2 annotations" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", range(4))
def test_boxes_of_numbers_that_are_not_finite_are_left_out(tmp_path, caplog, value, place):
    content = write_set(tmp_path)
    content["annotations"][0]["bbox"][place] = value
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = load_datasets(reference(tmp_path))
    assert [len(record["annotations"]) for record in dataset] == [0, 1, 1, 0]
    assert "left out 1 annotation without" in caplog.text


@pytest.mark.parametrize("area", [-5, 0, None, float("nan"), float("inf")])
def test_an_area_that_is_none_is_that_of_the_mask_as_repair_has_it(tmp_path, area):
    content = write_set(tmp_path)
    content["annotations"][0] |= {"bbox": [10, 10, 20, 20], "segmentation": [[10, 10, 30, 10, 10, 30]], "area": area}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = load_datasets(reference(tmp_path))
    (one,) = open_sets([str(tmp_path / "annotations.json")], images=False)
    assert dataset[0]["annotations"][0]["area"] == repair(one).content["annotations"][0]["area"] < 300


@pytest.mark.parametrize("area", [-5, 0, None, float("nan"), float("inf")])
def test_an_area_that_is_none_is_that_of_the_box_where_there_is_no_mask(tmp_path, area):
    content = write_set(tmp_path)
    content["annotations"][0] |= {"area": area, "segmentation": []}
    content["annotations"][1]["area"] = 7.5
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = load_datasets(reference(tmp_path))
    assert [a["area"] for record in dataset for a in record["annotations"]] == [300, 7.5, 300]


@pytest.mark.parametrize(
    ("categories", "words"),
    [
        ([], "no classes are declared"),
        ([{"id": 1, "name": "gun"}, {"id": 1, "name": "knife"}], "two classes have the same id"),
        ([{"id": "1", "name": "gun"}, {"id": "3", "name": "knife"}], "'1' of a class is no whole number"),
        ([{"id": -1, "name": "gun"}], "-1 of a class is no whole number"),
        ([{"id": "/m/04ctx", "name": "gun"}], "'/m/04ctx' of a class is no whole number"),
        ([{"id": "a", "name": "gun"}, {"id": 1, "name": "knife"}], "'a' of a class is no whole number"),
        ([{"id": 1, "name": "gun"}, {"id": 3, "name": " "}], "class 3 has no name"),
        ([{"id": 1, "name": "gun"}, {"id": 3, "name": None}], "class 3 has no name"),
        (
            [{"id": 2, "name": "gun"}, {"id": 3, "name": "a"}, {"id": 4, "name": "b"}],
            "ids 1 to 3, .* 2 to 4: .* shifted",
        ),
    ],
)
def test_classes_that_are_none_or_share_an_id_are_an_error(tmp_path, categories, words):
    write_set(tmp_path, categories=categories)
    with pytest.raises(UserError, match=words) as error:
        load_datasets(reference(tmp_path))
    assert "check" in error.value.fix


@pytest.mark.parametrize(
    "mask",
    [
        [[5, 5, 9, 5, float("nan"), 9]],
        [[5, 5, 9, 5, float("inf"), 9]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        {"size": [48, 64], "counts": [5, 5]},
        {"size": [48, 64], "counts": [5, -5, 3072]},
        {"size": [48, 64], "counts": "5o"},
        {"size": [48, 64], "counts": "5 0"},
        {"size": [48, 64]},
        "[[5, 5, 9, 5, 9, 9]]",
    ],
)
def test_masks_that_pycocotools_cannot_draw_are_an_error(tmp_path, mask):
    content = write_set(tmp_path)
    content["annotations"][1]["segmentation"] = mask
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the mask of annotation 101") as error:
        load_datasets(reference(tmp_path))
    assert "check" in error.value.fix


@pytest.mark.parametrize(
    "size",
    [
        [48.0, 64.0],
        [48],
        [48, 64, 1],
        ["48", "64"],
        [-48, -64],
        [0, 0],
        [True, True],
        [10**7, 10**7],
        {"h": 48},
        "48x64",
        None,
    ],
)
@pytest.mark.parametrize("counts", ["Pm0P`1", [1200, 1872]])
def test_a_run_length_encoded_mask_without_a_size_is_an_error(tmp_path, size, counts):
    content = write_set(tmp_path)
    content["annotations"][1]["segmentation"] = {"size": size, "counts": counts}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"the mask of annotation 101: no \[height, width\]"):
        load_datasets(reference(tmp_path))


@pytest.mark.parametrize("states_size", [True, False])
@pytest.mark.parametrize("counts", ["Pm0P`1", [1200, 1872]])
def test_a_mask_of_another_size_than_its_image_is_an_error(tmp_path, counts, states_size):
    content = write_set(tmp_path)
    content["annotations"][1]["segmentation"] = {"size": [64, 48], "counts": counts}
    if not states_size:
        content["images"][1].pop("width")
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the mask of annotation 101: an RLE of 48x64 in image 11 of 64x48"):
        load_datasets(reference(tmp_path))


OUTLINE = [5, 5, 9, 5, 9, 9]


@pytest.mark.parametrize(
    "part",
    [
        [*OUTLINE, 5],
        [5, 5, 9, 9],
        [],
        [[5, 5], [9, 5], [9, 9]],
        [OUTLINE],
        [[5, 5]] * 6,
        [{"x": 5, "y": 5}] * 6,
        5,
        {"x": 5},
    ],
)
def test_polygons_of_another_form_are_left_out_with_a_warning(tmp_path, caplog, part):
    content = write_set(tmp_path)
    content["annotations"][0]["segmentation"] = [OUTLINE, part]
    content["annotations"][1]["segmentation"] = [part]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = load_datasets(reference(tmp_path))
    assert [a.get("segmentation") for r in dataset for a in r["annotations"]][:2] == [[OUTLINE], None]
    assert "left out polygons of 2 annotations, e.g. 100" in caplog.text
    assert "1 annotation without a mask, e.g. 101" in caplog.text


@pytest.mark.parametrize(
    ("mask", "is_empty"),
    [
        ([[5, 6, 15, 6, 25, 6]], True),
        ([[5, 6, 5, 6, 5, 6], [9, 9, 9, 9, 9, 9]], True),
        ([[500, 6, 520, 6, 520, 20]], True),
        ([[-30, -30, -1, -30, -1, -1]], True),
        ({"size": [48, 64], "counts": [48 * 64]}, True),
        ({"size": [48, 64], "counts": "PP3"}, True),
        ({"size": [48, 64], "counts": [3000, 1, 71]}, False),
        ({"size": [48, 64], "counts": [0, 48 * 64]}, False),
        ([[5, 6, 25, 21, 25, 6, 5, 21]], False),  # a bow tie, whose outline's area is 0
        ([[-5, 6, 5, 6, 5, 20]], False),
        ([[5, 6, 15, 6, 25, 6], OUTLINE], False),
    ],
)
def test_a_mask_without_a_pixel_in_its_image_is_left_out_and_told(tmp_path, caplog, mask, is_empty):
    content = write_set(tmp_path)
    content["annotations"][0]["segmentation"] = mask
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (first, *_) = load_datasets(reference(tmp_path))[0]["annotations"]
    assert ("segmentation" not in first) == is_empty
    assert ("left out the masks of 1 annotation, e.g. 100" in caplog.text) == is_empty


def test_a_set_of_boxes_is_not_told_that_it_has_no_masks(tmp_path, caplog):
    write_set(tmp_path, masks=False)
    load_datasets(reference(tmp_path))
    assert not caplog.records


def test_names_of_classes_that_are_numbers_are_their_text(tmp_path):
    write_set(tmp_path, categories=[{"id": 1, "name": 7}, {"id": 3, "name": 2.5}])
    assert load_datasets(reference(tmp_path)).class_names == ("7", "2.5")


@pytest.mark.parametrize("ids", [["a", "b", "1", "01"], [2**70, 2**53 + 1, 5, 2**53], ["1", 1, 2.0, "2"]])
def test_ids_of_images_may_be_text_or_large(tmp_path, ids):
    content = write_set(tmp_path)
    for image, annotation, id in zip(content["images"], [*content["annotations"], {}], ids, strict=True):
        image["id"] = annotation["image_id"] = id
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = load_datasets(reference(tmp_path))
    assert [record["image_id"] for record in dataset] == ids
    assert [len(record["annotations"]) for record in dataset] == [1, 1, 1, 0]


@pytest.mark.parametrize("change", [{"id": None}, {"id": True}, {"id": " "}, {"id": 1.5}, {"file_name": 7}])
def test_a_image_without_an_id_or_a_name_is_an_error(tmp_path, change):
    content = write_set(tmp_path)
    content["images"][0] |= change
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="an image has the id"):
        load_datasets(reference(tmp_path))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "no data set is named"),
        ([], "no data set is named"),
        ({"json_fil": "a.json", "image_root": "b"}, "a data set with json_fil, image_root lacks json_file"),
        (5, "5 is not the name of a data set"),
        ([None], "None is not the name of a data set"),
        ([{}], "a data set with no key lacks json_file and image_root"),
    ],
)
def test_a_set_that_is_not_named_in_full_is_refused(names, message):
    with pytest.raises(UserError, match=message):
        load_datasets(names)


def test_the_root_of_the_sets_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.setenv("XRAY_DATASETS", "~/scans")
    assert default_root() == "/home/anna/scans"
    monkeypatch.setenv("XRAY_DATASETS", "")
    assert default_root() == "datasets/xray"


def test_where_a_set_is_missing_the_import_of_public_ones_is_named(tmp_path):
    with pytest.raises(UserError, match="there is no file") as told:
        find_source("xray_pidray_train", str(tmp_path))
    assert "`import` of public files" in told.value.fix
    (tmp_path / "annotations" / "smith").mkdir(parents=True)
    (tmp_path / "annotations" / "smith" / "train.json").touch()
    with pytest.raises(UserError, match="there is no file") as told:
        find_source("xray_pidray_train", str(tmp_path))
    assert "xray_smith_train; `tools/dataset.py import`" in told.value.fix


def test_of_a_set_that_is_given_by_its_path_no_fix_is_named_that_does_not_change_it(tmp_path):
    with pytest.raises(UserError, match="there is no file") as told:
        find_source({"json_file": "gone.json", "image_root": str(tmp_path)}, str(tmp_path))
    assert told.value.fix == "give the path of a file that is there"


@pytest.mark.parametrize("beginning", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"PK\x03\x04\xff"])
def test_an_image_in_the_place_of_annotations_is_told_from_text_in_another_encoding(tmp_path, beginning):
    (tmp_path / "bag.jpg").write_bytes(beginning)
    with pytest.raises(UserError, match="is no JSON file"):
        read_coco(tmp_path / "bag.jpg")
    (tmp_path / "labels.json").write_bytes('{"a": "刀"}'.encode("gbk"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_coco(tmp_path / "labels.json")
