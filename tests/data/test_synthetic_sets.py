"""Synthetic sets on disk: repeatable, valid COCO, careful with what is there, broken only as told."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import pytest
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from tests.patience import wait_until
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.synthetic import CLASS_NAMES, generate, parse_classes
from xray_lazy.data.synthetic.generate import generate_export, generate_set
from xray_lazy.data.synthetic.profiles import PROFILES
from xray_lazy.errors import UserError
from xray_lazy.utils import results_place

ENERGIES = ("high", "low")
TOOL = Path(__file__).parents[2] / "tools" / "dataset.py"


def fingerprints(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    generate_set(root, "demo", {"train": 18, "val": 7, "test": 0}, CLASS_NAMES[:5], seed=4, workers=1)
    return root


def test_the_number_of_workers_does_not_change_a_single_byte(demo_set, tmp_path):
    generate_set(tmp_path, "demo", {"train": 18, "val": 7}, CLASS_NAMES[:5], seed=4, workers=2)
    assert fingerprints(tmp_path) == fingerprints(demo_set)


def test_another_seed_makes_other_images_and_splits_share_none(demo_set, tmp_path):
    generate_set(tmp_path, "demo", {"train": 3, "val": 3}, CLASS_NAMES[:5], seed=5, workers=1)
    images = [value for root in (demo_set, tmp_path) for name, value in fingerprints(root).items() if "images" in name]
    assert len(set(images)) == len(images) == 18 + 7 + 3 + 3


def test_images_do_not_depend_on_how_many_there_are(demo_set, tmp_path):
    generate_set(tmp_path, "demo", {"train": 2}, CLASS_NAMES[:5], seed=4, workers=1)
    few, many = fingerprints(tmp_path), fingerprints(demo_set)
    images = [name for name in few if "images" in name]
    assert len(images) == 2
    assert all(few[name] == many[name] for name in images)


def test_the_layout_is_the_one_that_training_reads(demo_set):
    assert sorted(p.name for p in (demo_set / "annotations/demo").iterdir()) == ["train.json", "val.json"]
    assert len(list((demo_set / "images/demo/train").glob("*.jpg"))) == 18
    assert len(list((demo_set / "images/demo/valid").glob("*.jpg"))) == 7


def test_raw_scans_are_two_files_of_16_bits_of_the_same_bags_and_a_clean_set(demo_set, tmp_path):
    file = generate_set(tmp_path, "demo", {"train": 3}, CLASS_NAMES[:5], seed=4, workers=1, raw=True)["train"]
    colours = json.loads((demo_set / "annotations/demo/train.json").read_text())
    raw = json.loads(file.read_text())
    assert raw["annotations"] == [a for a in colours["annotations"] if a["image_id"] <= 3]
    for image in raw["images"]:
        energies = {file.parents[2] / "images/demo_raw/train" / image["file_name"].replace("low", e) for e in ENERGIES}
        scans = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(energies)]
        assert {(scan.dtype.name, scan.shape) for scan in scans} == {("uint16", (image["height"], image["width"]))}
        assert scans[0].mean() > 1.01 * scans[1].mean()  # more of the high energy gets through
    [report] = check_sets(open_sets(["xray_demo_raw_train"], root=str(tmp_path))).sets
    kinds = {finding.kind for finding in report.findings}
    assert kinds <= {"picture_without_annotations", "class_not_trained"}  # three bags show three of five classes


def test_the_annotations_are_valid_coco(demo_set):
    coco = COCO(str(demo_set / "annotations/demo/train.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES[:5])
    assert {annotation["category_id"] for annotation in coco.anns.values()} == {1, 2, 3, 4, 5}
    for image in coco.imgs.values():
        scan = cv2.imread(str(demo_set / "images/demo/train" / image["file_name"]))
        assert scan.shape == (image["height"], image["width"], 3) == (192, 320, 3)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"] > 0
        assert annotation["bbox"] == mask_api.toBbox(annotation["segmentation"]).tolist()


@pytest.mark.parametrize("share, expected", [(0.0, 0), (1.0, 10)])
def test_the_share_of_empty_bags_is_kept(tmp_path, share, expected):
    file = generate_set(tmp_path, "demo", {"train": 10}, workers=1, empty_share=share)["train"]
    coco = json.loads(file.read_text())
    assert len(coco["images"]) - len({a["image_id"] for a in coco["annotations"]}) == expected


@pytest.mark.parametrize("scanner", ["astrophysics", "smith", "rapiscan"])
def test_scanners_write_images_of_their_own_size(tmp_path, scanner):
    generate_set(tmp_path, scanner, {"test": 1}, workers=1, image_format="png")
    (path,) = (tmp_path / "images" / scanner / "test").iterdir()
    assert path.suffix == ".png"
    assert cv2.imread(str(path)).shape[1::-1] == PROFILES[scanner].size


def test_polygons_can_be_written_instead_of_run_lengths(tmp_path):
    file = generate_set(tmp_path, "demo", {"val": 6}, ("knife", "bottle"), workers=1, masks="polygon")["val"]
    coco = COCO(str(file))
    for annotation in coco.anns.values():
        assert all(len(polygon) >= 6 for polygon in annotation["segmentation"])
        assert coco.annToMask(annotation).sum() == pytest.approx(annotation["area"], rel=0.15)


def test_a_second_run_replaces_the_first_and_leaves_no_images_of_it(tmp_path):
    generate_set(tmp_path, "demo", {"train": 4}, workers=1)
    generate_set(tmp_path, "demo", {"train": 2}, workers=1)
    assert len(list((tmp_path / "images/demo/train").iterdir())) == 2


def test_an_earlier_set_is_there_until_the_new_one_is_complete(demo_set, tmp_path, monkeypatch):
    shutil.copytree(demo_set, tmp_path, dirs_exist_ok=True)
    draw, made = generate._draw, []

    def until_the_disk_is_full(task):
        if len(made) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        made.append(task)
        return draw(task)

    monkeypatch.setattr(generate, "_draw", until_the_disk_is_full)
    with pytest.raises(OSError, match="No space"):
        generate_set(tmp_path, "demo", {"train": 4, "val": 2}, CLASS_NAMES[:4], seed=6, workers=1)
    assert len(made) == 3
    assert fingerprints(tmp_path) == fingerprints(demo_set)


def test_a_killed_tool_leaves_no_process_behind(tmp_path):
    command = [sys.executable, TOOL, "demo", "--train", "4000", "--output", tmp_path, "--workers", "2"]
    tool = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    try:
        wait_until(lambda: tool.poll() is not None or any(tmp_path.rglob("*.jpg")))
        tool.kill()
        tool.communicate(timeout=60)  # the pipe has no end before all that hold it have ended
    finally:
        with suppress(ProcessLookupError):
            os.killpg(tool.pid, signal.SIGKILL)
    assert tool.returncode == -signal.SIGKILL


def test_a_split_of_a_synthetic_export_is_not_taken_for_a_set_that_may_be_replaced(tmp_path):
    export, _ = generate_export(tmp_path, "demo", 2, CLASS_NAMES[:2], workers=1)
    split = tmp_path / "annotations/demo/train.json"
    split.parent.mkdir(parents=True)
    shutil.copyfile(export, split)  # a split and a repaired set keep `info`
    before = fingerprints(tmp_path)
    with pytest.raises(UserError, match="not a synthetic set"):
        generate_set(tmp_path, "demo", {"train": 1, "val": 1}, workers=1)
    assert fingerprints(tmp_path) == before


def test_a_set_of_a_person_is_never_overwritten(tmp_path):
    own = tmp_path / "annotations/smith/train.json"
    own.parent.mkdir(parents=True)
    own.write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(UserError, match="not a synthetic set"):
        generate_set(tmp_path, "smith", {"train": 1, "val": 1}, workers=1)
    assert fingerprints(tmp_path) == {"annotations/smith/train.json": hashlib.sha256(own.read_bytes()).hexdigest()}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_generated_set_that_a_person_corrected_is_never_overwritten(demo_set, tmp_path, monkeypatch, when):
    shutil.copytree(demo_set, tmp_path, dirs_exist_ok=True)
    file, draw, corrected = tmp_path / "annotations/demo/val.json", generate._draw, []

    def correct():
        if not corrected:
            content = json.loads(file.read_text())
            content["annotations"][0]["bbox"][2] += 1
            file.write_text(json.dumps(content))
            corrected.append(fingerprints(tmp_path))

    def correct_meanwhile(task):
        correct()
        return draw(task)

    if when == "before":
        correct()
    else:
        monkeypatch.setattr(generate, "_draw", correct_meanwhile)
    with pytest.raises(UserError, match=r"val.json was changed since it was generated"):
        generate_set(tmp_path, "demo", {"train": 4, "val": 2}, CLASS_NAMES[:4], seed=6, workers=1)
    assert fingerprints(tmp_path) == corrected[0]


def test_a_set_stays_where_nothing_can_be_written_into_one_of_its_folders(demo_set, tmp_path, monkeypatch):
    shutil.copytree(demo_set, tmp_path, dirs_exist_ok=True)
    held = tmp_path / "images/demo/valid"
    monkeypatch.setattr(results_place, "writing_fault", lambda folder: "a read-only disk" if folder == held else "")
    with pytest.raises(UserError, match="a read-only disk"):
        generate_set(tmp_path, "demo", {"train": 1, "val": 1}, workers=1)
    assert fingerprints(tmp_path) == fingerprints(demo_set)


def test_a_generated_set_is_overwritten_also_where_its_form_or_a_note_was_changed(demo_set, tmp_path):
    shutil.copytree(demo_set, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "annotations/demo/val.json"
    content = json.loads(file.read_text())
    content["info"]["note"] = "of my talk"
    file.write_text(json.dumps(content, indent=2))
    generate_set(tmp_path, "demo", {"val": 1}, workers=1)
    assert len(json.loads(file.read_text())["images"]) == 1


@pytest.mark.parametrize(
    "change, named",
    [
        ({"scanner": "heimann"}, "heimann"),
        ({"classes": ("gun", "banana")}, "banana"),
        ({"classes": ("gun", "gun")}, "different"),
        ({"masks": "contour"}, "contour"),
        ({"image_format": "bmp"}, "bmp"),
        ({"empty_share": 1.5}, "1.5"),
        ({"seed": -1}, "-1"),
        ({"counts": {"train": 0}}, "nothing"),
    ],
)
def test_what_can_not_be_made_is_said_and_nothing_is_written(tmp_path, change, named):
    arguments = {"scanner": "demo", "counts": {"train": 1}, **change}
    with pytest.raises(UserError, match=named):
        generate_set(tmp_path, workers=1, **arguments)
    assert not list(tmp_path.iterdir())


def test_an_output_that_can_not_be_made_is_said(tmp_path):
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="can not be made"):
        generate_set(tmp_path, "demo", {"train": 1}, workers=1)


def test_an_export_with_faults_is_replaced_by_another(tmp_path):
    files = [generate_export(tmp_path, "demo", 20, workers=1, seed=seed, faults=True)[0] for seed in (1, 2)]
    assert json.loads(files[1].read_text())["info"]["seed"] == 2


def test_an_export_has_exactly_the_faults_that_it_tells(tmp_path):
    whole, none = generate_export(tmp_path / "whole", "demo", 20, CLASS_NAMES[:5], workers=1)
    file, planted = generate_export(tmp_path / "broken", "demo", 20, CLASS_NAMES[:5], workers=1, faults=True)
    assert none == []
    where = {fault.kind: fault.where for fault in planted}
    images, content = file.parent / "images", json.loads(file.read_text())
    originals = json.loads(whole.read_text())
    by_id = {f"annotation {a['id']}": a for a in content["annotations"]}

    assert {(i["width"], i["height"]) for i in content["images"]} == {(0, 0)}
    assert not (images / where["missing image"]).exists()
    cut, full = (root / "images" / where["truncated image"] for root in (file.parent, whole.parent))
    assert full.read_bytes().startswith(cut.read_bytes())
    assert cut.stat().st_size < full.stat().st_size
    copy, original = where["duplicate image"].split(" of ")
    assert (images / copy).read_bytes() == (images / original).read_bytes()
    ids = [category["id"] for category in content["categories"]]
    assert ids == sorted(ids) != list(range(1, 6))
    assert len(by_id[where["polygon of fewer than 3 points"]]["segmentation"][0]) == 4
    assert by_id[where["annotation without image"]]["image_id"] not in {i["id"] for i in content["images"]}
    assert by_id[where["undeclared category"]]["category_id"] not in ids
    assert by_id[where["empty box"]]["bbox"][2:] == [0, 0]
    assert by_id[where["box outside the image"]]["bbox"][0] > 320
    assert "segmentation" not in by_id[where["box without mask"]]
    twice = [a for a in content["annotations"] if f"annotation {a['id']}" == where["duplicate annotation id"]]
    assert len(twice) == 2
    area = by_id[where["area that is not the mask's"]]
    assert area["area"] != mask_api.area(area["segmentation"])
    # All other images are as they were.
    spared = {i["file_name"] for i in originals["images"]} - {where["missing image"], where["truncated image"]}
    for name in spared:
        assert (images / name).read_bytes() == (whole.parent / "images" / name).read_bytes()


def test_too_few_images_for_the_faults_is_said(tmp_path):
    with pytest.raises(UserError, match="12 images"):
        generate_export(tmp_path, "demo", 5, workers=1, faults=True)


def test_classes_are_given_as_a_number_or_as_names():
    assert parse_classes("5") == ("gun", "knife", "scissors", "battery", "bottle")
    assert parse_classes("bottle, gun") == ("bottle", "gun")
    assert len(set(parse_classes("13"))) == 13
    for wrong in ("0", "14", "gun,spoon", ""):
        with pytest.raises(UserError):
            parse_classes(wrong)


def test_the_tool_generates_what_is_asked_and_names_the_sets(tmp_path):
    command = [sys.executable, str(TOOL), "demo", "--output", str(tmp_path), "--classes", "3", "--workers", "1"]
    done = subprocess.run([*command, "--train", "4", "--val", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "xray_demo_train: 4 images" in done.stdout
    assert "xray_demo_val: 2 images" in done.stdout
    assert len(json.loads((tmp_path / "annotations/demo/train.json").read_text())["categories"]) == 3

    refused = subprocess.run([*command, "--faults"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "--export" in refused.stderr
