"""Public sets, as small made-up trees of their layouts: what becomes of them and of their faults."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from tools.dataset import build_parser
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.dataset_places import available_datasets, find_source, scanner_of, set_name
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.public_sets import PUBLIC_SETS, import_set, importing
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json

SIZE = (60, 40)  # width, height
CLASSES = PUBLIC_SETS["opixray"].classes


def draw(path, size=SIZE, grey=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), grey, np.uint8))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def content(root, scanner, subset):
    return json.loads((root / "annotations" / scanner / f"{subset}.json").read_text())


def boxes(document):
    """Each image's boxes, by its file name."""
    names = {image["id"]: image["file_name"] for image in document["images"]}
    found = {name: [] for name in names.values()}
    for annotation in document["annotations"]:
        found[names[annotation["image_id"]]].append(annotation["bbox"])
    return found


def counts(notes):
    return {what.split(":")[0]: count for what, count in notes.counts.items()}


@pytest.fixture
def opixray(tmp_path):
    folder = tmp_path / "OPIXray"
    for role, names in (("train", [f"{n:03d}" for n in range(20)]), ("test", ["900", "901", "902"])):
        for number, name in enumerate(names):
            draw(folder / role / f"{role}_image" / f"{name}.jpg", grey=100 + number)
            class_name = CLASSES[number % len(CLASSES)] if role == "train" else "Scissor"
            line = f"{name}.jpg   {class_name} 10 10 30  25\n"
            write(folder / role / f"{role}_annotation" / f"{name}.txt", line)
        write(folder / role / f"{role}_knife.txt", "\n".join(names) + "\n")
    write(folder / "test" / "test_knife-1.txt", "900\n")
    write(folder / "test" / "test_knife-2.txt", "901\n902\n903\n")
    return folder


def test_a_set_of_text_files_is_imported_with_its_subsets(opixray, tmp_path):
    root = tmp_path / "sets"
    made, notes = import_set("opixray", opixray, root)
    assert {one.name: one.images for one in made} == {
        "xray_opixray_train_all": 20,
        "xray_opixray_test": 3,
        "xray_opixray_test_ol1": 1,
        "xray_opixray_test_ol2": 2,
        "xray_opixray_train": 18,
        "xray_opixray_val": 2,
    }
    assert counts(notes)["name in test_knife-2.txt without an image, which is left out"] == 1
    assert any("ol3" in what for what in notes.counts)
    train, part, val = (content(root, "opixray", subset) for subset in ("train_all", "train", "val"))
    assert [category["name"] for category in train["categories"]] == list(CLASSES)
    assert set(boxes(part)) | set(boxes(val)) == set(boxes(train)) and not set(boxes(part)) & set(boxes(val))
    assert train["info"]["url"] == PUBLIC_SETS["opixray"].page
    # by name, with images through the link, as trainings read them
    dataset = load_datasets("xray_opixray_test_ol2", root=str(root))
    assert len(dataset) == 2 and dataset[0]["annotations"][0]["bbox"] == [10, 10, 20, 15]
    assert (root / "images" / "opixray" / "all").is_symlink()
    assert "xray_opixray_test_ol1" in available_datasets(str(root))
    # images of other splits in the same folder are no fault
    (checked,) = check_sets(open_sets(["xray_opixray_train_all"], str(root))).sets
    assert {finding.kind for finding in checked.findings} <= {"box_only"}


def test_faults_of_boxes_are_put_right_and_told(opixray, tmp_path):
    lines = [
        "old name 7.jpg Scissor 30 25 10 10",
        "x.jpg Scissor -5 10 30 99",
        "x.jpg Utility_Knife 5 5 5 9",
        "x.jpg Sword 1 1 9 9",
        "x.jpg Scissor 1 1",
        "x.jpg Straight_Knife 1 2 9 12 0",
        "",
    ]
    write(opixray / "test" / "test_annotation" / "900.txt", "\n".join(lines))
    (opixray / "test" / "test_annotation" / "901.txt").unlink()
    _, notes = import_set("opixray", opixray, tmp_path / "sets")
    found = boxes(content(tmp_path / "sets", "opixray", "test"))
    seen = found["test/test_image/900.jpg"]
    assert seen == [[10, 10, 20, 15], [0, 10, 30, 30], [1, 2, 8, 10]]
    assert found["test/test_image/901.jpg"] == []
    # once, though the image is in a subset, too
    told = counts(notes)
    assert told["box with its corners in the other order, put right"] == 1
    assert told["box over the edge of its image, cut there"] == 1
    assert told["box without an area inside of its image"] == 1
    assert told["box of class Sword, which is none of the set's"] == 1
    assert told["line that is no `name class x1 y1 x2 y2`, which is left out"] == 1


def test_scanners_are_sets_of_their_own(tmp_path):
    folder = tmp_path / "EDS"
    for domain in (1, 2, 3):
        for name in range(10):
            draw(folder / f"domain{domain}" / "image" / f"{name}.jpg")
            write(folder / f"domain{domain}" / "txt" / f"{name}.txt", f"old_{name}.jpg knife 1 2 11 12")
    made, _ = import_set("eds", folder, tmp_path / "sets")
    assert {one.name for one in made if "domain2" in one.name} == {
        f"xray_eds_domain2_{subset}" for subset in ("train_all", "test_all", "train", "val")
    }
    assert scanner_of("xray_eds_domain2_test_all") == "eds_domain2"
    assert len(load_datasets("xray_eds_domain3_test_all", root=str(tmp_path / "sets"))) == 10


def test_sixray_has_its_empty_bags_from_the_tables(tmp_path):
    folder = tmp_path / "SIXray"
    for number, name in enumerate(("P1", "N1", "P2")):
        draw(folder / str(number) / f"{name}.jpg")  # in numbered folders, as one copy has them
    box = "<bndbox><xmin>0.000</xmin><ymin>4.500</ymin><xmax>20.250</xmax><ymax>14.500</ymax></bndbox>"
    write(
        folder / "Annotation" / "P1.xml",
        f"<annotation><filename>P1.jpg</filename><object><name>Gun</name>{box}</object></annotation>",
    )
    labels = ["P1,1,-1,-1,-1,-1", "N1,-1,-1,-1,-1,-1", "P2,-1,1,-1,-1,-1", "P9,1,-1,-1,-1,-1"]
    rows = "\n".join(["name,Gun,Knife,Wrench,Pliers,Scissors", *labels])
    for table in ("10/train", "10/test", "100/test"):
        write(folder / "ImageSet" / f"{table}.csv", rows)
    made, notes = import_set("sixray", folder, tmp_path / "sets")
    assert {one.name for one in made} == {f"xray_sixray_{name}" for name in ("train_10", "test_10", "test_100")}
    assert boxes(content(tmp_path / "sets", "sixray", "test_10")) == {"0/P1.jpg": [[0, 4.5, 20.25, 10]], "1/N1.jpg": []}
    assert counts(notes)["bag with items that no box shows"] == 3


@pytest.mark.parametrize(
    "damaged", ["", "<annotation><object>", "<annotation><object><name>Gun</name></object></annotation>"]
)
def test_a_damaged_file_of_sixray_leaves_its_bag_out_whatever_the_table_says(tmp_path, damaged):
    folder = tmp_path / "SIXray"
    for name in ("P1", "N1"):
        draw(folder / f"{name}.jpg")
    write(folder / "Annotation" / "P1.xml", damaged)
    write(folder / "ImageSet" / "10" / "train.csv", "name,Gun\nP1,-1\nN1,-1\n")
    _, notes = import_set("sixray", folder, tmp_path / "sets")
    assert names_of(tmp_path / "sets", "sixray", "train_10") == ["N1.jpg"]
    assert counts(notes)["label of which nothing can be read"] == 1


def test_a_table_of_sixray_tells_of_the_set_s_classes_alone_and_has_a_header(tmp_path):
    folder = tmp_path / "SIXray"
    draw(folder / "N1.jpg")
    write(folder / "Annotation" / "X.xml", "<annotation></annotation>")
    write(folder / "ImageSet" / "10" / "train.csv", "name,Gun,night\nN1,-1,1\n")
    made, notes = import_set("sixray", folder, tmp_path / "sets")
    assert [one.name for one in made] == ["xray_sixray_train_10"] and not counts(notes)
    write(folder / "ImageSet" / "10" / "train.csv", "N1,-1,1\n")
    with pytest.raises(UserError, match="has no column name"):
        import_set("sixray", folder, tmp_path / "sets", overwrite=True)


def coco(names, category="Gun", height=SIZE[1], label=1):
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": height} for n, name in enumerate(names)]
    outline = [[5, 5, 25, 5, 25, 15, 5, 15]]
    one = {"category_id": label, "bbox": [5, 5, 20, 10], "segmentation": outline, "area": 200, "iscrowd": 0}
    annotations = [{"id": n, "image_id": n, **one} for n in range(len(names))]
    return {"images": images, "annotations": annotations, "categories": [{"id": label, "name": category}]}


def test_copies_of_a_scan_with_one_class_each_become_one(tmp_path):
    folder = tmp_path / "unpacked" / "PIDray"
    size = (30, 1040)
    for name, grey in (("a.png", 10), ("b.png", 10), ("c.png", 30)):
        draw(folder / "train" / name, size, grey)
    document = coco(["a.png", "b.png", "c.png"], height=1040)
    document["categories"].append({"id": 2, "name": "Knife"})
    document["annotations"][1]["category_id"] = 2
    write(folder / "annotations" / "xray_train.json", document)
    for kind in ("easy", "hard"):
        draw(folder / kind / f"{kind}.png")
        write(folder / "annotations" / f"xray_test_{kind}.json", coco([f"{kind}.png"]))
    # the set is the only folder in the one that is given
    made, notes = import_set("pidray", folder.parent, tmp_path / "sets", {"Gun": "gun"})
    train = content(tmp_path / "sets", "pidray", "train_all")
    assert [image["file_name"] for image in train["images"]] == ["train/a.png", "train/c.png"]
    names = {category["id"]: category["name"] for category in train["categories"]}
    assert sorted(names[a["category_id"]] for a in train["annotations"] if a["image_id"] == 1) == ["Knife", "gun"]
    assert train["annotations"][0]["segmentation"] == [[5, 5, 25, 5, 25, 15, 5, 15]]
    assert {"xray_pidray_test_easy", "xray_pidray_test_hard"} <= {one.name for one in made}
    assert any("hidden" in what for what in notes.counts)


def test_faults_of_coco_files_are_put_right_and_told(tmp_path):
    """Masks as run lengths, crowds, other classes, ids and images that are there twice, masks of nothing."""
    folder = tmp_path / "CLCXray"
    for name in ("1.png", "2.png", "3.png"):
        draw(folder / "train2017" / name)
    document = coco(["1.png", "2.png", "3.png", "1.png", "3.png"], "blade")
    document["images"][4]["id"] = 2
    first, second, third, again, _ = document["annotations"]
    runs = {"size": [40, 60], "counts": [405, 10, 30, 10, 1945]}
    first |= {"segmentation": runs, "bbox": [10, 5, 2, 10], "iscrowd": 1}
    second["segmentation"] = [[100, 100, 120, 100, 120, 110, 100, 110]]
    third["segmentation"] = runs | {"counts": [1, 2]}
    again["bbox"] = [1, 2, 3, 4]
    write(folder / "annotations" / "instances_train2017.json", document)
    _, notes = import_set("clcxray", folder, tmp_path / "sets")
    found = content(tmp_path / "sets", "clcxray", "train")
    assert [image["file_name"][-5:] for image in found["images"]] == ["1.png", "2.png", "3.png"]
    of_first = [one for one in found["annotations"] if one["image_id"] == 1]
    assert [one["bbox"] for one in of_first] == [[10, 5, 2, 10], [1, 2, 3, 4]]
    assert [one["iscrowd"] for one in of_first] == [1, 0]
    assert of_first[0]["segmentation"] == runs and of_first[0]["area"] == 20
    assert [one["segmentation"] for one in found["annotations"][2:4]] == [[], []]
    told = counts(notes)
    assert told["image with the id of another one"] == 1
    assert told["image that is listed twice"] == 1
    assert sum(count for what, count in told.items() if what.startswith("mask that had to be repaired")) == 2


def test_items_of_classes_that_a_set_does_not_have_are_left_out(tmp_path):
    folder = tmp_path / "PIDray"
    for name in ("a.png", "b.png"):
        draw(folder / "train" / name)
    document = coco(["a.png", "b.png"])
    document["categories"].append({"id": 2, "name": "baton"})
    document["annotations"][1]["category_id"] = 2
    write(folder / "annotations" / "xray_train.json", document)
    made, notes = import_set("pidray", folder, tmp_path / "sets")
    assert [one.items for one in made if one.name.endswith("train_all")] == [{"Gun": 1}]
    assert counts(notes)["annotation of class baton, which is none of the set's"] == 1


def test_a_new_name_of_a_class_that_is_not_there_is_refused_also_where_labels_alone_tell_the_classes(tmp_path):
    folder = tmp_path / "CLCXray"
    draw(folder / "train2017" / "1.png")
    write(folder / "annotations" / "instances_train2017.json", coco(["1.png"], "blade"))
    with pytest.raises(UserError, match="no class blades") as caught:
        import_set("clcxray", folder, tmp_path / "sets", {"blades": "knife"})
    assert "blade" in caught.value.fix and not (tmp_path / "sets").exists()


def test_a_second_image_of_a_name_is_told(opixray, tmp_path):
    image = next((opixray / "train" / "train_image").iterdir())
    draw(image.with_suffix(".png" if image.suffix != ".png" else ".jpg"))
    _, notes = import_set("opixray", opixray, tmp_path / "sets")
    assert counts(notes)["image with the name of another but for its ending"] == 1


def test_a_wrong_file_name_of_clcxray_is_corrected(tmp_path):
    folder = tmp_path / "CLCXray"
    draw(folder / "train2017" / "20_40_04_140.png")
    draw(folder / "train2017" / "1.png")
    write(folder / "annotations" / "instances_train2017.json", coco([".png", "1.png", "2.png"], "blade"))
    _, notes = import_set("clcxray", folder, tmp_path / "sets")
    found = boxes(content(tmp_path / "sets", "clcxray", "train"))
    assert set(found) == {"train2017/1.png", "train2017/20_40_04_140.png"}
    assert counts(notes)["image of instances_train2017.json that is not there"] == 1


def test_both_views_of_a_bag_go_into_one_split(tmp_path):
    folder = tmp_path / "DvXray"
    for n in range(20):
        kind, objects = "Positive", [{"label": "Gun", "ol_bb": [1, 2, 11, 12], "sd_bb": "difficult"}]
        if n % 2:
            kind, objects = "Negative", "None"
        for view in ("OL", "SD"):
            draw(folder / f"DvXray_{kind}_Samples" / f"P{n:05d}_{view}.png")
        write(folder / f"DvXray_{kind}_Samples" / f"P{n:05d}.json", {"name": f"P{n:05d}", "objects": objects})
    made, notes = import_set("dvxray", folder, tmp_path / "sets")
    assert {one.name: one.images for one in made} == {
        "xray_dvxray_train": 28,
        "xray_dvxray_val": 4,
        "xray_dvxray_test": 8,
    }
    for subset in ("train", "val", "test"):
        found = boxes(content(tmp_path / "sets", "dvxray", subset))
        bags = [name.rpartition("_")[0] for name in found]
        assert all(bags.count(bag) == 2 for bag in bags)
        images = content(tmp_path / "sets", "dvxray", subset)["images"]
        assert all(Path(image["file_name"]).stem == f"{image['bag']}_{image['view']}" for image in images)
        assert all(seen == ([[1, 2, 10, 10]] if "Positive" in n and "OL" in n else []) for n, seen in found.items())
    assert counts(notes)["item that can't be seen in a view"] == 10


def test_pixray_has_outlines(tmp_path):
    folder = tmp_path / "PIXray"
    for n in range(5):
        draw(folder / "images" / f"{n}.png")
        outline = {"label": "Gun", "polygon": [[1, 1], [11, 1], [11, 9]]}
        write(folder / "labels" / f"{n}.json", {"objects": [outline, {"label": "Gun", "polygon": [[1, 1]]}]})
    _, notes = import_set("pixray", folder, tmp_path / "sets")
    train = content(tmp_path / "sets", "pixray", "train")
    assert train["annotations"][0]["segmentation"] == [[1, 1, 11, 1, 11, 9]] and train["annotations"][0]["area"] == 40
    assert counts(notes)["outline that is not of 3 or more points"] == 5


def test_labels_of_another_scale_are_scaled_and_those_of_another_form_left_out(tmp_path):
    folder = tmp_path / "STCray"
    stated = {"scaled": (120, 80), "other": (100, 100), "same": SIZE}
    for name, (width, height) in stated.items():
        inside = f"Class 01_Gun/{name}"
        draw(folder / "STCray_TrainSet" / "Images" / f"{inside}.jpg")
        shape = {"label": "Gun", "shape_type": "rectangle", "points": [[30, 22], [10, 2]]}
        label = {"shapes": [shape], "imageWidth": width, "imageHeight": height, "imagePath": f"{name}.jpg"}
        write(folder / "STCray_TrainSet" / "Json_BB" / f"{inside}.json", label)
    draw(folder / "STCray_TestSet" / "Images" / "Class 22_Non Threat" / "same.jpg")
    write(folder / "STCray_TrainSet" / "Images" / "Class 01_Gun" / "._same.jpg", "no image")
    made, notes = import_set("stcray", folder, tmp_path / "sets")
    found = boxes(content(tmp_path / "sets", "stcray", "train_all"))
    place = "STCray_TrainSet/Images/Class 01_Gun"
    assert found == {f"{place}/same.jpg": [[10, 2, 20, 20]], f"{place}/scaled.jpg": [[5, 1, 10, 10]]}
    assert next(one for one in made if one.name == "xray_stcray_test").empty == 1
    assert counts(notes)["label made for an image of another form"] == 1


def names_of(root, scanner, subset):
    return [Path(image["file_name"]).name for image in content(root, scanner, subset)["images"]]


def test_labels_with_large_letters_in_their_suffix_are_found(opixray, tmp_path):
    label = opixray / "test" / "test_annotation" / "900.txt"
    label.rename(label.with_suffix(".TXT"))
    label.with_suffix(".txt").mkdir()  # which is no label
    _, notes = import_set("opixray", opixray, tmp_path / "sets")
    assert boxes(content(tmp_path / "sets", "opixray", "test"))["test/test_image/900.jpg"] == [[10, 10, 20, 15]]
    assert "image without a label, which is an empty bag" not in counts(notes)


def test_a_set_without_any_labels_is_refused(opixray, tmp_path):
    for label in (opixray / "test" / "test_annotation").iterdir():
        label.rename(label.with_suffix(".text"))
    with pytest.raises(UserError, match=r"none of the 3 images in test/test_image has a label in .*test_annotation"):
        import_set("opixray", opixray, tmp_path / "sets")
    folder = tmp_path / "STCray"
    for part in ("Train", "Test"):
        draw(folder / f"STCray_{part}Set" / "Images" / "Gun" / "0.jpg")
    with pytest.raises(UserError, match="none of the 2 images"):
        import_set("stcray", folder, tmp_path / "sets")
    draw(tmp_path / "SIXray" / "P1.jpg")
    (tmp_path / "SIXray" / "Annotation").mkdir()
    write(tmp_path / "SIXray" / "ImageSet" / "10" / "train.csv", "name,Gun\nP1,-1\n")
    with pytest.raises(UserError, match="none of the 1 image in"):
        import_set("sixray", tmp_path / "SIXray", tmp_path / "sets")
    assert not (tmp_path / "sets").exists()


def test_a_set_all_of_whose_classes_are_spelled_otherwise_is_refused(opixray, tmp_path):
    for label in opixray.glob("*/*_annotation/*.txt"):
        label.write_text(f"{label.stem}.jpg scissor 10 10 30 25")
    with pytest.raises(UserError, match="has no item of the classes of OPIXray: 23 x box of class scissor"):
        import_set("opixray", opixray, tmp_path / "sets")


def test_a_damaged_text_file_leaves_its_image_out(opixray, tmp_path):
    labels = opixray / "test" / "test_annotation"
    (labels / "900.txt").write_text("900.jpg Scissor 10 10 30 25", encoding="utf-16")
    (labels / "901.txt").unlink()
    _, notes = import_set("opixray", opixray, tmp_path / "sets")
    assert names_of(tmp_path / "sets", "opixray", "test") == ["901.jpg", "902.jpg"]
    told = counts(notes)
    assert told["label of which no line can be read"] == 1
    assert told["image without a label, which is an empty bag"] == 1
    # of its only image
    assert not (tmp_path / "sets" / "annotations" / "opixray" / "test_ol1.json").exists()
    assert notes.examples["subset without images: not written"] == "xray_opixray_test_ol1"


@pytest.mark.parametrize("damaged", ["{", "{}", '{"objects": 5}', '{"objects": [1]}'])
@pytest.mark.parametrize("name", ["dvxray", "pixray"])
def test_a_damaged_json_file_leaves_its_images_out_and_so_does_a_missing_one(tmp_path, name, damaged):
    folder = tmp_path / "set"
    for bag in ("a", "b", "c", "d", "e", "f"):
        for image in (f"{bag}_OL.png", f"{bag}_SD.png") if name == "dvxray" else (f"{bag}.png",):
            draw(folder / "DvXray_Positive_Samples" / image)
        if bag != "f":
            write(folder / "DvXray_Positive_Samples" / f"{bag}.json", damaged if bag == "e" else BAG)
    (folder / "DvXray_Negative_Samples").mkdir()
    made, notes = import_set(name, folder, tmp_path / "sets")
    views = 2 if name == "dvxray" else 1
    assert sum(one.images for one in made) == 4 * views
    assert counts(notes)["JSON file that can't be read"] == 1
    assert counts(notes)["image without a JSON file"] == views


@pytest.mark.parametrize("damaged", ["{", "{}", '{"shapes": [{"label": "Gun", "points": [[1, 1]]}]}'])
def test_a_damaged_labelme_file_leaves_its_image_out(tmp_path, damaged):
    folder = tmp_path / "STCray"
    for part in ("Train", "Test"):
        for image in ("0", "1"):
            draw(folder / f"STCray_{part}Set" / "Images" / "Gun" / f"{image}.jpg")
            write(folder / f"STCray_{part}Set" / "Json" / "Gun" / f"{image}.JSON", damaged if image == "1" else SHAPE)
    made, notes = import_set("stcray", folder, tmp_path / "sets")
    assert [one.images for one in made if one.name == "xray_stcray_test"] == [1]
    assert [one.items for one in made if one.name == "xray_stcray_test"] == [{"Gun": 1}]
    assert counts(notes)["label that can't be read"] == 2


def test_annotations_of_images_that_are_not_listed_are_told(tmp_path):
    folder = tmp_path / "CLCXray"
    draw(folder / "train2017" / "1.png")
    document = coco(["1.png", "2.png"], "blade")
    del document["images"][1]
    write(folder / "annotations" / "instances_train2017.json", document)
    _, notes = import_set("clcxray", folder, tmp_path / "sets")
    assert counts(notes)["annotation of an image that is not listed"] == 1


def test_a_set_none_of_whose_images_can_be_read_is_refused(tmp_path):
    folder = tmp_path / "CLCXray"
    write(folder / "train2017" / "1.png", "no image")
    write(folder / "annotations" / "instances_train2017.json", coco(["1.png"], "blade"))
    with pytest.raises(UserError, match=r"has no images of CLCXray that can be taken: .*image that can't be read"):
        import_set("clcxray", folder, tmp_path / "sets")


def test_a_series_of_boxes_that_are_none_is_left_out(tmp_path):
    folder = tmp_path / "GDXray"
    for series in ("B0001", "B0002"):
        draw(folder / "Baggages" / series / f"{series}_0001.png")
    savemat(folder / "Baggages" / "B0001" / "BoundingBox.mat", {"bb": np.array([[1, 5, 25, 6, 16]])})
    savemat(folder / "Baggages" / "B0002" / "BoundingBox.mat", {"bb": np.array(["one", "two"])})
    made, notes = import_set("gdxray", folder, tmp_path / "sets")
    assert sum(one.images for one in made) == 1
    assert counts(notes)["file of boxes that can't be read"] == 1


def test_series_without_boxes_are_not_empty_bags(tmp_path):
    folder = tmp_path / "GDXray"
    for series in ("B0001", "B0002"):
        for n in (1, 2):
            draw(folder / "Baggages" / series / f"{series}_{n:04d}.png")
    savemat(
        folder / "Baggages" / "B0001" / "BoundingBox.mat",
        {"bb": np.array([[1, 5, 25, 6, 16], [1, np.nan, 9, 3, 8], [1, 2, 9, 3, 8]])},
    )
    made, notes = import_set("gdxray", folder, tmp_path / "sets")
    assert counts(notes)["row of a file of boxes without five numbers"] == 1
    assert sum(one.images for one in made) == 2 and sum(one.items.total() for one in made) == 2
    assert counts(notes)["image of a series without boxes"] == 2


BAG = {"objects": [{"label": "Gun", "ol_bb": [1, 2, 3, 9], "sd_bb": "difficult", "polygon": [[1, 1], [5, 1], [5, 6]]}]}
SHAPE = {"shapes": [{"label": "Gun", "points": [[1, 1], [5, 1], [5, 6]]}], "imageWidth": 60, "imageHeight": 40}
# files by their paths, images without a content
TREES = {
    "opixray": {
        "train/train_image/0.jpg": None,
        "test/test_image/1.jpg": None,
        "train/train_annotation/0.txt": "x Scissor 1 1 9 9",
        "test/test_annotation/1.txt": "x Scissor 1 1 9 9",
        "train/train_knife.txt": "0",
    },
    "pidray": {"train/0.png": None, "annotations/xray_train.json": coco(["0.png"])},
    "sixray": {
        "JPEGImage/P0.jpg": None,
        "ImageSet/10/train.csv": "name,Gun\nP0,1",
        "Annotation/P0.xml": "<annotation><object><name>Gun</name></object></annotation>",
    },
    "dvxray": {
        "DvXray_Positive_Samples/P0_OL.png": None,
        "DvXray_Negative_Samples/P1_SD.png": None,
        "DvXray_Positive_Samples/P0.json": BAG,
    },
    "pixray": {"0.png": None, "0.json": BAG},
    "stcray": {
        "STCray_TrainSet/Images/Gun/0.jpg": None,
        "STCray_TestSet/Images/Gun/0.jpg": None,
        "STCray_TrainSet/Json/Gun/0.json": SHAPE,
    },
    "gdxray": {"Baggages/B0001/B0001_0001.png": None, "Baggages/B0001/BoundingBox.mat": "no matrix"},
}
DAMAGED = [
    b"",
    b"\xff\xfe\x00",
    b"\0" * 50,
    b"{",
    b"[]",
    b"null",
    b'{"objects": 5}',
    b'{"objects": [{"label": ["Gun"]}, {"label": "Gun", "polygon": "x", "ol_bb": [null, 1, 2, 3]}, 5]}',
    b'{"objects": [{"label": "Gun", "polygon": [[1e308, 1], [2, 2], [3, 3]], "ol_bb": [1e300, 0, 1, 2]}]}',
    b'{"images": [1], "annotations": [null, {"bbox": "x"}], "categories": [{"id": [1]}]}',
    b'{"images": [{"id": 1, "file_name": null, "height": 1040}], "annotations": [{"image_id": {}, "category_id": 1}],'
    b' "categories": [{"id": 1, "name": 5}]}',
    b'{"shapes": [{"label": "Gun", "points": [[1]]}, 5]}',
    b"a b Scissor nan 1 2 3\nx Scissor inf 1 2 3\n",
    "手枪,1\n".encode("gbk"),
]


@pytest.mark.parametrize("name", TREES)
def test_a_damaged_file_is_named_or_left_out(tmp_path, name):
    folder = tmp_path / "set"
    for place, text in TREES[name].items():
        draw(folder / place) if text is None else write(folder / place, text)
    for place, text in TREES[name].items():
        for number, damaged in enumerate(DAMAGED):
            (folder / place).write_bytes(damaged)
            try:
                made, notes = import_set(name, folder, tmp_path / f"{Path(place).name}_{number}")
            except UserError as error:
                assert error.fix
            else:
                assert made and all(line.strip() for line in notes.lines())
        draw(folder / place) if text is None else write(folder / place, text)


def test_what_is_not_the_set_is_refused_and_nothing_is_written(opixray, tmp_path):
    root = tmp_path / "sets"
    with pytest.raises(UserError, match="lacks domain1/image") as told:
        import_set("eds", opixray, root)
    assert PUBLIC_SETS["eds"].page in told.value.fix
    with pytest.raises(UserError, match="no importer is called opixrai") as told:
        import_set("opixrai", opixray, root)
    assert "opixray" in told.value.fix
    with pytest.raises(UserError, match="no class Scissors"):
        import_set("opixray", opixray, root, {"Scissors": "scissors"})
    with pytest.raises(UserError, match="there is no folder"):
        import_set("opixray", tmp_path / "none", root)
    assert not root.exists()


def test_help_names_all_sets(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["import", "--help"])
    told = capsys.readouterr().out.replace(" or ", ", ").replace("\n", " ")
    assert set(PUBLIC_SETS) <= {word.strip(" ,") for word in told.split()}


def test_an_import_is_repeated_only_on_demand(opixray, tmp_path):
    root = tmp_path / "sets"
    import_set("opixray", opixray, root)
    before = content(root, "opixray", "val")
    with pytest.raises(UserError, match="is there already"):
        import_set("opixray", opixray, root)
    import_set("opixray", opixray, root, overwrite=True)
    assert content(root, "opixray", "val") == before
    import_set("opixray", opixray, root, overwrite=True, seed=1)
    assert boxes(content(root, "opixray", "val")) != boxes(before)
    corrected = root / "annotations" / "opixray" / "train.json"
    corrected.write_text(corrected.read_text() + "\n")
    with pytest.raises(UserError, match="was changed since it was made here"):
        import_set("opixray", opixray, root, overwrite=True)
    assert corrected.read_text().endswith("\n")


class Killed(BaseException):
    """In place of a signal that no block can see to."""


@pytest.mark.parametrize("done", [0, 3, 6, 7, 8, 9, 12])
def test_an_import_that_is_killed_leaves_no_sets_of_two_imports(opixray, tmp_path, monkeypatch, done):
    root, moved = tmp_path / "sets", Path(f"{opixray}_2")
    import_set("opixray", opixray, root)
    opixray.rename(moved)
    steps = iter(range(done))
    rename, replace = Path.rename, Path.replace

    def step(change, path, *arguments, **options):
        of_import = path.suffix == ".json" or path.name in (".written", ".all.unfinished")
        if of_import and next(steps, None) is None:
            raise Killed
        change(path, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", lambda *given, **options: step(replace, *given, **options))
        patch.setattr(Path, "rename", lambda *given, **options: step(rename, *given, **options))
        import_set("opixray", moved, root, overwrite=True, seed=1)
    there = [json.loads(path.read_text())["info"]["seed"] for path in root.glob("annotations/*/*.json")]
    assert len(set(there)) <= 1 and (0 in there or (root / "images" / "opixray" / "all").is_dir() or not there)
    assert not list(root.glob("annotations/*/.import-unfinished"))
    made, _ = import_set("opixray", moved, root, overwrite=True, seed=1)
    assert len(list(root.glob("annotations/*/*.json"))) == len(made)


def test_an_import_of_which_a_set_can_not_be_replaced_stays(opixray, tmp_path, monkeypatch):
    root = tmp_path / "sets"
    import_set("opixray", opixray, root)
    before = {path: path.read_bytes() for path in root.glob("annotations/*/*")}
    rename = Path.rename

    def held(path, place):
        if path.name == "val.json":
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        return rename(path, place)

    monkeypatch.setattr(Path, "rename", held)
    with pytest.raises(OSError, match="resource busy"):
        import_set("opixray", opixray, root, overwrite=True, seed=1)
    assert {path: path.read_bytes() for path in root.glob("annotations/*/*")} == before


def test_a_set_that_a_killed_import_lacks_says_so(opixray, tmp_path):
    root = tmp_path / "sets"
    import_set("opixray", opixray, root)
    folder = root / "annotations" / "opixray"
    (folder / ".import-unfinished").mkdir()
    (folder / "val.json").rename(folder / ".import-unfinished" / "val.json")
    with pytest.raises(UserError, match=r"there is no file .*val\.json") as told:
        find_source("xray_opixray_val", str(root))
    assert "import it again, with --overwrite" in told.value.fix
    import_set("opixray", opixray, root, overwrite=True)
    assert find_source("xray_opixray_val", str(root)).json_file.is_file()


def test_an_import_that_can_t_be_written_leaves_the_earlier_one(opixray, tmp_path, monkeypatch):
    root = tmp_path / "sets"
    made, _ = import_set("opixray", opixray, root)
    written = []

    def full(path, content):
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_json(path, content)

    monkeypatch.setattr(importing, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        import_set("opixray", opixray, root, overwrite=True, seed=1)
    seeds = [json.loads(path.read_text())["info"]["seed"] for path in root.glob("annotations/*/*.json")]
    assert seeds == [0] * len(made) and not list(root.glob("annotations/*/.import-unfinished"))


def test_sets_that_a_new_import_does_not_make_are_gone(opixray, tmp_path):
    root = tmp_path / "sets"
    import_set("opixray", opixray, root)
    (opixray / "test" / "test_knife-1.txt").unlink()
    own = root / "annotations" / "opixray" / "test_own.json"
    own.write_text("{}")
    corrected = root / "annotations" / "opixray" / "test_ol1.json"
    before = corrected.read_text()
    corrected.write_text(before + "\n")
    with pytest.raises(UserError, match=r"test_ol1\.json was changed since it was made here"):
        import_set("opixray", opixray, root, overwrite=True)
    corrected.write_text(before)
    _, notes = import_set("opixray", opixray, root, overwrite=True)
    assert not corrected.exists() and own.read_text() == "{}"
    assert notes.examples["file beside those of the import, which stays as it is"] == str(own)


def test_the_tool_tells_what_it_made(opixray, tmp_path, capsys):
    arguments = ["import", "opixray", str(opixray), "--output", str(tmp_path / "sets"), "--rename", "Scissor=scissors"]
    options = build_parser().parse_args(arguments)
    assert options.run(options) == 0
    told = capsys.readouterr().out
    assert "xray_opixray_test_ol2" in told and "scissors 4" in told and PUBLIC_SETS["opixray"].page in told
    assert "dataset.py check xray_opixray_train_all" in told
    options = build_parser().parse_args([*arguments[:-1], "Scissor"])
    with pytest.raises(UserError, match="OLD=NEW"):
        options.run(options)
    options = build_parser().parse_args([*arguments[:-1], "Scissor=a,Scissor=b"])
    with pytest.raises(UserError, match="calls Scissor both a and b"):
        options.run(options)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("xray_smith_val", ("smith", "val", "")),
        ("xray_my_test_lab_train", ("my_test_lab", "train", "")),
        ("xray_pidray_test_hidden", ("pidray", "test", "hidden")),
        ("xray_smith", None),
        ("smith_train", None),
    ],
)
def test_names_of_sets_have_a_scanner_a_split_and_maybe_a_subset(name, parts):
    assert set_name(name) == parts


def test_a_set_whose_splits_have_folders_of_their_own_is_found_as_before(tmp_path):
    write(tmp_path / "annotations" / "smith" / "val.json", coco(["1.png"]))
    draw(tmp_path / "images" / "smith" / "valid" / "1.png")
    assert find_source("xray_smith_val", str(tmp_path)).image_root == tmp_path / "images" / "smith" / "valid"
