"""COCO files that can't be read end in one message."""

import gzip

import pytest

from xray_lazy.data.check import check_sets, open_sets
from xray_lazy.data.coco_file import read_coco
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.repair import repair
from xray_lazy.errors import UserError


@pytest.mark.parametrize("name", ["set.json", "a set.json.gz"])
def test_a_compressed_file_is_told_with_the_command_that_unpacks_it(name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(b'{"images": [], "annotations": [], "categories": []}'))
    with pytest.raises(UserError, match=r"compressed by gzip\nfix: unpack it: gunzip < .*set\.json"):
        read_coco(tmp_path / name)


def test_a_compressed_file_is_a_file_on_the_command_line_of_check(tmp_path):
    (tmp_path / "set.json.gz").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(UserError, match="compressed by gzip"):
        open_sets([str(tmp_path / "set.json.gz"), str(tmp_path)])


def test_deep_nesting_is_told(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UserError, match="inside of each other"):
        read_coco(tmp_path / "deep.json")


def test_a_number_of_thousands_of_digits_is_told(tmp_path):
    (tmp_path / "long.json").write_text(f'{{"images": [{{"id": {"9" * 5000}}}], "annotations": [], "categories": []}}')
    with pytest.raises(UserError, match=r"not valid JSON: .*5000 digits"):
        read_coco(tmp_path / "long.json")


@pytest.mark.parametrize("given", ["null", "{}", '"none"'])
def test_a_list_that_is_not_needed_may_be_none(tmp_path, given):
    (tmp_path / "info.json").write_text(f'{{"info": null, "images": [], "annotations": {given}}}')
    assert read_coco(tmp_path / "info.json", needed=["images"]) == {"info": None, "images": []}
    with pytest.raises(UserError, match="no list annotations or categories"):
        read_coco(tmp_path / "info.json")


AMBIGUOUS = """{"info": 1, "info": 2,
  "images": [{"id": 1, "file_name": "a.png", "width": 64, "width": 64, "height": 48}],
  "annotations": [{"id": 5, "image_id": 1, "category_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 0,
                   "bbox": [5, 6, 7, 8], "area": 56,
                   "segmentation": {"size": [48, 64], "counts": [0], "counts": [270, 4, 2798]}},
                  {"id": "6", "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 1, "area": 12}],
  "categories": [{"id": 1, "name": "gun"}, {"id": 2, "name": "pistol", "name": "knife"}]}"""


def test_keys_that_are_given_twice_are_told_and_the_last_one_counts(tmp_path, caplog):
    file = tmp_path / "set.json"
    file.write_text(AMBIGUOUS)
    [one] = open_sets([str(file)], images=False)
    repaired = repair(one)
    told = [(change.of, change.id, change.detail) for change in repaired.changes if change.kind == "repeated_key"]
    assert told == [("instance", 5, "category_id, bbox, counts"), ("instance", "6", "area"), ("class", 2, "name")]
    [report] = check_sets([one], read_images=False).sets
    assert {group.kind: len(group.findings) for group in report.groups()}["repeated_key"] == 3
    assert not any(group.kind == "repeated_key" for group in repaired.left.sets[0].groups())
    assert repaired.content["annotations"][0]["bbox"] == [5, 6, 7, 8]
    dataset = load_datasets({"json_file": str(file), "image_root": str(tmp_path), "name": "twice"})
    assert dataset.class_names == ("gun", "knife") and dataset[0]["annotations"][0]["category_id"] == 1
    assert "the last of several values of a key in 3 entries, e.g. category_id, bbox, counts of id 5" in caplog.text


def test_a_list_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "set.json").write_text('{"images": [], "annotations": [1], "categories": [], "annotations": []}')
    with pytest.raises(UserError, match="has the list annotations several times"):
        read_coco(tmp_path / "set.json")
