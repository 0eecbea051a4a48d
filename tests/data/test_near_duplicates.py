"""The same scan under other names and with other pixels: found by check, kept together by split; other bags are not."""

import json

import cv2
import numpy as np
import pytest

from xray_lazy.data.check import CocoSet, check_sets
from xray_lazy.data.check.near_duplicates import same_scans, thumbnail
from xray_lazy.data.split import plan_split, read_export
from xray_lazy.data.synthetic import parse_classes
from xray_lazy.data.synthetic.generate import generate_export


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """The JSON file and the folder of ten bags of the synthetic scanner."""
    root = tmp_path_factory.mktemp("bags")
    file, _ = generate_export(root, "demo", 10, classes=parse_classes("5"), workers=1, image_format="png")
    return file, file.parent / "images"


COPIES = {
    "compressed": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], 1),
    "resized": lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.75).astype(np.uint8),
    "cropped": lambda image: image[3:-5, 6:-2],
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned, smaller and compressed": lambda image: COPIES["compressed"](COPIES["resized"](image[::-1, ::-1])),
}


@pytest.mark.parametrize("change", COPIES)
def test_the_same_scan_with_other_pixels_is_found_in_a_set_and_in_another(tmp_path, bags, change):
    file, folder = bags
    content = json.loads(file.read_text())
    third = content["images"][2]
    copied = COPIES[change](cv2.imread(str(folder / third["file_name"])))
    cv2.imwrite(str(tmp_path / "again.png"), copied)
    entry = {"id": 99, "file_name": "again.png", "width": copied.shape[1], "height": copied.shape[0]}
    other = CocoSet("val", {**content, "images": [entry], "annotations": []}, tmp_path)
    report = check_sets([CocoSet("train", content, folder), other])
    told = f"again.png shows {third['file_name']} (id {third['id']}) of train"
    assert duplicates(report) == [[], [("near_duplicate_in_two_sets", 99, told)]]
    entry["file_name"] = str(tmp_path / "again.png")
    ((found,),) = duplicates(check_sets([CocoSet("all", {**content, "images": [*content["images"], entry]}, folder)]))
    assert found[:2] == ("near_duplicate", 99)


def duplicates(report) -> list[list[tuple]]:
    return [[(f.kind, f.id, f.detail) for f in one.findings if "duplicate_" in f"{f.kind}_"] for one in report.sets]


def test_a_copy_with_the_same_pixels_is_told_once(tmp_path, bags):
    file, folder = bags
    content = json.loads(file.read_text())
    first = content["images"][0]
    (tmp_path / "again.png").write_bytes((folder / first["file_name"]).read_bytes())
    copy = CocoSet("val", {**content, "images": [{**first, "file_name": "again.png"}], "annotations": []}, tmp_path)
    report = check_sets([CocoSet("train", content, folder), copy])
    assert duplicates(report) == [[], []]
    assert "picture_in_two_sets" in {finding.kind for finding in report.sets[1].findings}


def test_empty_belts_are_not_the_same_scan():
    noise = np.random.default_rng(0)
    belts = [thumbnail(noise.integers(250, 255, (90, 160, 3), dtype=np.uint8)) for _ in range(3)]
    assert same_scans(belts) == [0, 1, 2]


def test_copies_of_copies_are_one_scan_and_nothing_is_that_of_no_image():
    blurred = [cv2.GaussianBlur(np.random.default_rng(seed).random((64, 64, 3)), (0, 0), 6) for seed in range(2)]
    one, other = ((image - image.min()) / np.ptp(image) * 255 for image in blurred)
    images = [one, other, one[:, ::-1], other * 0.8, one[::-1] * 0.9]
    assert same_scans([thumbnail(image.astype(np.uint8)) for image in images]) == [0, 1, 0, 1, 0]
    assert same_scans([]) == []


def test_split_keeps_the_same_scan_together_and_leaves_unreadable_images_apart(tmp_path, bags):
    file, folder = bags
    content = json.loads(file.read_text())
    images = []
    for image in content["images"]:
        pixels = cv2.imread(str(folder / image["file_name"]))
        for change in ("compressed", "mirrored", "cropped"):
            images.append({"id": len(images) + 1, "file_name": f"{image['id']}_{change}.png"})
            cv2.imwrite(str(tmp_path / images[-1]["file_name"]), COPIES[change](pixels))
    for name in ("broken.png", "cut.png"):
        (tmp_path / name).write_bytes(b"no image")
        images.append({"id": len(images) + 1, "file_name": name})
    (tmp_path / "all.json").write_text(json.dumps({**content, "images": images, "annotations": []}))
    plan = plan_split(read_export("demo", tmp_path / "all.json", tmp_path), (0.5, 0.25, 0.25), 0, "duplicates")
    assert plan.groups == [3] * 10
    bags_of = {split: {i["file_name"].split("_")[0] for i in part["images"]} for split, part in plan.parts.items()}
    assert sum(map(len, bags_of.values())) == 12 == len(set().union(*bags_of.values()))
