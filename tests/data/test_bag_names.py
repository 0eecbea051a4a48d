"""Bags and views of a set: named by its images, kept whole by parts and splits, counted and checked."""

import json

import pytest

from tests.conftest import ROOT
from tests.data.coco_sets import reference, write_set
from tests.data.test_split import split, write_export
from xray_lazy.data.bag_names import bag_of_each, named_fields
from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.check.check_console import print_report
from xray_lazy.data.datasets import load_datasets
from xray_lazy.errors import UserError

TOOL = ROOT / "tools" / "dataset.py"
VIEWS = [("a", "top"), ("a", "side"), ("b", "top"), ("b", "side"), ("c", "top"), ("c", "side")]


def two_views(folder, named=VIEWS):
    """A set whose images have these bags and views."""
    folder.mkdir(exist_ok=True)
    write_set(folder, count=len(named))
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    for image, (bag, view) in zip(content["images"], named, strict=True):
        image |= {key: value for key, value in (("bag", bag), ("view", view)) if value is not None}
    file.write_text(json.dumps(content))
    return folder


def checked(folder):
    report = check_sets(open_sets([str(folder / "annotations.json"), str(folder / "images")]))
    told = [[(f.kind, f.detail) for f in one.findings if f.kind.startswith(("bag", "view"))] for one in report.sets]
    return told, report


def test_records_have_them_and_those_of_two_sets_are_never_one_bag(tmp_path):
    first, second = two_views(tmp_path / "one"), two_views(tmp_path / "two", [(7, "top"), ("", None)])
    records = load_datasets(reference(first))
    assert [(one["bag"], one["view"]) for one in records] == VIEWS
    joined = load_datasets([reference(first), reference(second)])
    assert [one.get("bag", "").rpartition("/")[2] for one in joined] == [bag for bag, _ in VIEWS] + ["7", ""]
    assert len({one["bag"] for one in joined if "bag" in one}) == 4 and "bag" not in joined[-1]


@pytest.mark.parametrize("options", [{"fraction": 0.67}, {"fraction": 0.67, "seed": 1}, {"max_pictures": 5}])
def test_a_part_has_all_views_of_a_bag_or_none(tmp_path, options):
    part = load_datasets(reference(two_views(tmp_path / "set")), **options)
    assert len(part) == 4 and len({one["bag"] for one in part}) == 2 and part.name.endswith("_4of6")


def test_images_of_one_name_in_other_folders_are_one_bag_only_where_the_pattern_says_so():
    files = ["a/bag1_x.png", "b/bag1_y.png", "a/tray.png", "b/tray.png"]
    images = [{"id": number, "file_name": file} for number, file in enumerate(files)]
    bags = bag_of_each(images, "id", "^(bag[0-9]+)_|.*")  # as the message on names that don't fit advises
    assert bags == ["bag1", "bag1", "a/tray.png", "b/tray.png"]


def test_bags_are_counted_by_their_views(tmp_path, capsys):
    found, report = checked(two_views(tmp_path / "set"))
    assert found == [[]] and report.as_json()["sets"][0]["bags"] == {"bags": {2: 3}, "views": ["side", "top"]}
    print_report(report)
    assert "bags: 3 of 2 images; views: side, top" in capsys.readouterr().out
    (tmp_path / "plain").mkdir()
    write_set(tmp_path / "plain")
    assert checked(tmp_path / "plain")[1].sets[0].bags is None


def test_a_view_that_is_missing_or_there_twice_is_told(tmp_path):
    named = [*VIEWS[:3], ("b", "top"), ("c", None), (None, None)]
    found, report = checked(two_views(tmp_path / "set", named))
    [found] = found
    assert [kind for kind, _ in found] == ["bag_not_named", "bag_not_named", "view_twice", "view_missing"]
    assert "view top of bag b is" in found[2][1] and found[3][1] == "bag b has top and not side"
    assert report.sets[0].bags.summary() == "1 of 1 image, 2 of 2 images; views: side, top"
    assert report.trainable


def test_a_bag_in_two_splits_is_a_leak(tmp_path):
    # the JSON files of the splits of a scanner lie beside each other
    one = two_views(tmp_path / "set")
    content = json.loads((one / "annotations.json").read_text())
    for name, images in (("train", content["images"][:3]), ("val", content["images"][3:])):
        ids = {image["id"] for image in images}
        kept = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        (one / f"{name}.json").write_text(json.dumps({**content, "images": images, "annotations": kept}))
    sets = open_sets([str(part) for name in ("train", "val") for part in (one / f"{name}.json", one / "images")])
    found = [finding for report in check_sets(sets).sets for finding in report.findings]
    [leak] = [finding for finding in found if finding.kind == "bag_in_two_sets"]
    assert "bag_3.png shows bag b of" in leak.detail and leak.detail.endswith("train.json")


def test_a_split_names_bags_and_views_by_a_second_group_and_keeps_them(tmp_path):
    parts = split(write_export(tmp_path), tmp_path / "one", group_by=r"^(bag\d+)_(\d)\.")
    images = [image for part in parts.values() for image in part["images"]]
    assert all(image["file_name"] == f"{image['bag']}_{image['view']}.png" for image in images)
    # a set that names its bags is split by them without being told
    export = write_export(tmp_path / "named")
    content = json.loads(export[0].read_text())
    for image in content["images"]:
        image["bag"] = image["file_name"][-5]
    export[0].write_text(json.dumps(content))
    parts = split(export, tmp_path / "two", ratios=(0.5, 0.5, 0))
    assert {len({image["bag"] for image in part["images"]}) for part in parts.values()} == {1}


def test_a_repair_names_bags_and_views(tmp_path, run_tool_here):
    write_set(tmp_path, count=4)
    given = ("repair", tmp_path / "annotations.json", tmp_path / "images", "--output", tmp_path / "new.json")
    refused = run_tool_here(TOOL, *given, "--group-by", "^(.+)_")
    assert refused.returncode == 2 and "tells no views" in refused.stderr and not (tmp_path / "new.json").exists()
    assert run_tool_here(TOOL, *given, "--group-by", "^(.+)_([^_]+)[.]").returncode == 0
    images = json.loads((tmp_path / "new.json").read_text())["images"]
    assert [(image["bag"], image["view"]) for image in images] == [("bag", str(number)) for number in range(4)]


def test_one_group_tells_no_bags():
    assert named_fields(["day1_x.png"], r"^(day\d)_") == [{}]
    with pytest.raises(UserError, match="does not fit 1 of 1"):
        named_fields(["x.png"], r"^(day\d)_(.)")
