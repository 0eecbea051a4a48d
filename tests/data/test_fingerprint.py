"""Whether two runs saw the same data."""

import hashlib
import json

from tests.data.coco_sets import reference, write_set
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.fingerprint import fingerprint


def test_it_tells_size_classes_and_the_files_content(tmp_path):
    write_set(tmp_path / "bags", count=8)
    path = tmp_path / "bags" / "annotations.json"
    assert fingerprint(load_datasets(reference(tmp_path / "bags"))) == {
        "name": "bags",
        "pictures": 8,
        "annotations": 6,
        "classes": ["gun", "knife"],
        "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest()},
    }


def test_a_moved_box_changes_it_and_a_second_look_does_not(tmp_path):
    content = write_set(tmp_path / "bags")
    first, second = (fingerprint(load_datasets(reference(tmp_path / "bags"))) for _ in range(2))
    content["annotations"][0]["bbox"][0] += 1
    (tmp_path / "bags" / "annotations.json").write_text(json.dumps(content))
    assert first == second != fingerprint(load_datasets(reference(tmp_path / "bags")))


def test_joined_sets_have_both_files_and_a_part_has_its_own_numbers(tmp_path):
    for name in ("one", "two"):
        write_set(tmp_path / name)
    both = [reference(tmp_path / name) for name in ("one", "two")]
    facts = fingerprint(load_datasets(both, filter_empty=True, max_pictures=2))
    assert (facts["name"], facts["pictures"], facts["annotations"]) == ("one+two_2of6", 2, 2)
    assert [path.split("/")[-2] for path in facts["files"]] == ["one", "two"]


def test_a_plain_list_of_records_and_a_file_that_is_gone_are_no_error(tmp_path):
    assert fingerprint([{"annotations": [{}, {}]}, {}])["annotations"] == 2
    write_set(tmp_path)
    dataset = load_datasets(reference(tmp_path))
    (tmp_path / "annotations.json").unlink()
    assert list(fingerprint(dataset)["files"].values()) == [None]
