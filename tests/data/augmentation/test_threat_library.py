"""Items cut out of bags: what they alone let through, kept as a set that can be looked at and used again."""

import json

import cv2
import numpy as np
import pytest

from tests.data.augmentation.conftest import as_image, empty_bag, knife, write_bags
from tools.dataset import build_parser
from xray_lazy.data.augmentation.cutting import Unusable, cut_by_box, cut_by_mask, cut_single
from xray_lazy.data.augmentation.threat_cutting import cut_dataset, cut_scans
from xray_lazy.data.augmentation.threat_library import LibraryWriter, read_library
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.masks.mask_rasters import MaskWindow
from xray_lazy.errors import UserError

SIZE = (240, 320)


def load(folder):
    return load_datasets({"json_file": str(folder / "set.json"), "image_root": str(folder / "images")})


def box_of(bits):
    return tuple(int(value) for value in MaskWindow(0, 0, bits).box())


def true_cut(let_through, bits, cut):
    """What the cut should be, in its own window."""
    (left, top), inner = box_of(bits)[:2], box_of(cut.bits)
    x, y = left - inner[0], top - inner[1]
    height, width = cut.bits.shape
    return let_through[y : y + height, x : x + width], bits[y : y + height, x : x + width]


@pytest.mark.parametrize("angle", [0, 35])
def test_an_item_cut_by_its_mask_is_what_it_alone_lets_through(angle):
    let_through, bits = knife(SIZE, (170, 120), angle)
    image = as_image(empty_bag() * let_through)
    cut = cut_by_mask(image, MaskWindow(0, 0, bits), np.zeros(SIZE, bool))
    wanted, mask = true_cut(let_through, bits, cut)
    assert (cut.bits == mask).all()
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
    assert np.abs(cut.transmission[inner] / 255 - wanted[inner]).max() < 0.05
    outside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0
    assert (cut.transmission[outside] == 255).all()


@pytest.mark.parametrize("angle", [0, 35, 80])
def test_an_item_cut_by_its_box_has_nothing_of_the_box(angle):
    let_through, bits = knife(SIZE, (170, 120), angle)
    image = as_image(empty_bag() * let_through)
    cut = cut_by_box(image, box_of(bits), np.zeros(SIZE, bool))
    wanted, mask = true_cut(let_through, bits, cut)
    assert (cut.bits & mask).sum() / (cut.bits | mask).sum() > 0.9
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
    assert np.abs(cut.transmission[inner] / 255 - wanted[inner]).max() < 0.06
    outside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0
    assert (cut.transmission[outside] == 255).all()


def test_what_is_not_apart_from_its_surroundings_is_not_cut():
    bag, nothing = as_image(empty_bag()), np.zeros(SIZE, bool)
    with pytest.raises(Unusable):  # nothing there
        cut_by_box(bag, (100, 80, 180, 120), nothing)
    dark = bag.copy()
    dark[60:160, 60:260] //= 2  # the box shows a part of something larger
    with pytest.raises(Unusable):
        cut_by_box(dark, (100, 80, 180, 120), nothing)
    with pytest.raises(Unusable):
        cut_by_box(bag, (0, 0, SIZE[1], SIZE[0]), nothing)
    with pytest.raises(Unusable):
        cut_by_mask(bag, MaskWindow(100, 80, np.ones((30, 40), bool)), nothing)


def test_an_item_before_a_black_bag_is_not_cut():
    let_through, bits = knife((240, 320), (160, 120))
    mask, others = MaskWindow(0, 0, bits), np.zeros(bits.shape, bool)
    bag = empty_bag()
    assert cut_by_mask(as_image(bag * let_through), mask, others).bits.any()
    # one channel is black already, as behind a laptop in pseudo-colours
    bag[60:180, 60:260, 2] = np.random.default_rng(0).normal(6, 2, (120, 200))
    with pytest.raises(Unusable, match="nothing through"):
        cut_by_mask(as_image(bag * let_through), mask, others)


def test_a_scan_of_one_item_is_cut_at_its_outline():
    let_through, bits = knife(SIZE, (170, 120), 20)
    image = as_image(np.float32(228) * let_through)
    cut = cut_single(image)
    _, mask = true_cut(let_through, bits, cut)
    assert (cut.bits & mask).sum() / (cut.bits | mask).sum() > 0.95
    with pytest.raises(Unusable):
        cut_single(np.full((*SIZE, 3), 230, np.uint8))


@pytest.mark.parametrize("with_masks", [True, False])
def test_a_library_keeps_items_that_are_apart(tmp_path, with_masks):
    bags = write_bags(tmp_path / "bags", with_masks)
    counts, left_out = cut_dataset(load(bags), tmp_path / "library", scanner="smith", pixel_size=0.8)
    assert counts == {"knife": 2, "gun": 1}
    assert sum(left_out.values()) == 2 and all("covered" in why for why in left_out)
    threats = read_library(tmp_path / "library")
    assert [threat.class_name for threat in threats] == ["knife", "knife", "gun"]
    first = threats[0]
    assert (first.scanner, first.source, first.pixel_size) == ("smith", "1.png", 0.8)
    assert first.place == pytest.approx(((90 - 20) / 280, (70 - 20) / 200), abs=0.05)
    assert read_library(tmp_path / "library") is threats  # once in a process


def test_how_much_of_an_item_others_may_cover_can_be_set(knives, tmp_path):
    counts, left_out = cut_dataset(load(knives), tmp_path / "library", most_overlap=1.0)
    assert counts == {"knife": 3, "gun": 2} and not left_out


def test_a_library_is_a_data_set_without_faults(knives, tmp_path):
    cut_dataset(load(knives), tmp_path / "library")
    one = open_sets([str(tmp_path / "library" / "threats.json"), str(tmp_path / "library")])
    assert check_sets(one).trainable


def test_scans_of_single_items_make_a_library(tmp_path):
    for name, angle in (("knife", 0), ("knife", 40), ("big gun", 90)):
        path = tmp_path / "scans" / name / f"{angle}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), as_image(np.float32(240) * knife(SIZE, (150, 120), angle)[0]))
    cv2.imwrite(str(tmp_path / "scans" / "knife" / "nothing.png"), np.full((*SIZE, 3), 240, np.uint8))
    counts, left_out = cut_scans(tmp_path / "scans", tmp_path / "library")
    assert counts == {"big gun": 1, "knife": 2}
    assert list(left_out.values()) == [1]
    assert [threat.place for threat in read_library(tmp_path / "library")] == [None] * 3


def run(*arguments):
    options = build_parser().parse_args(["threats", *map(str, arguments)])
    return options.run(options)


def test_the_tool_makes_a_library_with_a_sheet_and_tells_what_it_left_out(knives, tmp_path, capsys):
    library = tmp_path / "library"
    source = knives / "set.json", "--images", knives / "images"
    assert run(*source, "--output", library) == 0
    told = capsys.readouterr().out
    assert "3 items: 2 knife, 1 gun" in told and "left out: 2 items covered to more than 20% by others" in told
    assert sorted(path.name for path in library.iterdir()) == ["images", "sheet.jpg", "threats.json"]
    with pytest.raises(UserError, match="already"):
        run(*source, "--output", library)
    before = (library / "threats.json").stat().st_ino
    assert run(*source, "--output", library, "--overwrite") == 0
    assert (library / "threats.json").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_is_no_library_is_not_replaced(knives, tmp_path):
    source = knives / "set.json", "--images", knives / "images", "--overwrite"
    with pytest.raises(UserError, match="is no threat library"):
        run(*source, "--output", knives)
    library = tmp_path / "library"
    run(*source, "--output", library)
    (library / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        run(*source, "--output", library)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="no folder"):
        run(*source, "--output", file)


def test_a_library_that_fails_leaves_nothing(knives, tmp_path):
    (knives / "images" / "2.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"2\.png"):
        cut_dataset(load(knives), tmp_path / "library")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bags"]


def test_a_library_is_made_by_one_process_and_after_a_killed_one(knives, tmp_path):
    library, dataset = tmp_path / "library", load(knives)
    with LibraryWriter(library, dataset.class_names):
        with pytest.raises(UserError, match="another process is writing results into"):
            cut_dataset(dataset, library)
        [unfinished] = [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    (unfinished / "new" / "images").mkdir(parents=True)  # as a killed one leaves it
    cut_dataset(dataset, library)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bags", "library"]


def test_what_the_tool_needs_is_said(knives, tmp_path):
    library = tmp_path / "library"
    with pytest.raises(UserError, match="no items are named"):
        run("--output", library)
    with pytest.raises(UserError, match="are not named"):
        run(knives / "set.json", "--output", library)
    with pytest.raises(UserError, match="there is no file"):
        run(knives / "other.json", "--images", knives / "images", "--output", library)
    with pytest.raises(UserError, match="is not the name of a data set"):
        run("smith", "--output", library)
    with pytest.raises(UserError, match="no images in subfolders"):
        run("--scans", knives / "images", "--output", library)
    with pytest.raises(UserError, match="there is no folder"):
        run("--scans", tmp_path / "nowhere", "--output", library)


def test_a_set_without_a_usable_item_makes_no_library(knives, tmp_path):
    content = json.loads((knives / "set.json").read_text())
    content["annotations"] = content["annotations"][2:4]
    (knives / "set.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="no item of set can be put into a library: 2 items covered"):
        cut_dataset(load(knives), tmp_path / "library")


def test_masks_of_an_edited_library_may_be_polygons(knives, tmp_path):
    library = tmp_path / "library"
    cut_dataset(load(knives), library)
    before = read_library(library)[0]
    index = json.loads((library / "threats.json").read_text())
    index["annotations"] = index["annotations"][:1]
    contours, _ = cv2.findContours(before.bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    index["annotations"][0]["segmentation"] = [contour.ravel().tolist() for contour in contours]
    (library / "threats.json").write_text(json.dumps(index))
    (after,) = read_library(library)
    assert (after.bits & before.bits).sum() / (after.bits | before.bits).sum() > 0.85
    index["annotations"][0]["segmentation"] = {"size": list(before.bits.shape), "counts": "0"}
    (library / "threats.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="is empty"):
        read_library(library)


def test_a_library_that_cannot_be_read_says_which_file(knives, tmp_path):
    library = tmp_path / "library"
    with pytest.raises(UserError, match="no threat library: there is no folder"):
        read_library(library)
    cut_dataset(load(knives), library)
    png = next(library.rglob("*.png"))
    kept = png.read_bytes()
    png.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(UserError, match=png.name):
        read_library(library)
    cv2.imwrite(str(png), np.full((5, 6, 3), 200, np.uint8))
    with pytest.raises(UserError, match="is 6x5, its mask"):
        read_library(library)
    png.write_bytes(kept)
    index = json.loads((library / "threats.json").read_text())
    (library / "threats.json").write_text(json.dumps(index | {"annotations": []}))
    with pytest.raises(UserError, match="has no items"):
        read_library(library)
    del index["annotations"][0]["segmentation"]
    (library / "threats.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="is no index of a threat library"):
        read_library(library)
