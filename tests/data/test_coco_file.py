"""COCO files that can't be read end in one message."""

import gzip

import pytest

from xray_lazy.data.check.coco_set import open_sets
from xray_lazy.data.coco_file import read_coco
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
