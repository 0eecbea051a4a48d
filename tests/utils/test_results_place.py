"""Results replace earlier ones of their kind, and nothing else."""

import fcntl
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.data.coco_sets import write_set
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.utils.results_place import (
    check_as_written,
    check_no_input,
    check_replaceable,
    check_result_file,
    check_result_folder,
    json_with,
    record_written,
    replace_folder,
    sole_maker,
    sole_writer,
)

TOOL = Path(__file__).parents[2] / "tools" / "dataset.py"
LABEL = {"imagePath": "bag_0.png", "imageWidth": 64, "imageHeight": 48}
LABEL |= {"shapes": [{"label": "gun", "shape_type": "rectangle", "points": [[3, 3], [20, 20]]}]}


def check(path):
    check_result_file(path, lambda file: json_with(file, "trainable"), "a list of findings")


def test_an_earlier_result_and_an_empty_file_may_be_replaced(tmp_path):
    check(tmp_path / "new" / "file.json")
    (tmp_path / "empty").touch()
    check(tmp_path / "empty")
    for content in ({"trainable": True}, [{"trainable": True, "more": 1}]):
        (tmp_path / "earlier").write_text(json.dumps(content))
        check(tmp_path / "earlier")


OTHERS = {
    "other JSON": lambda path: path.write_text('{"images": []}'),
    "a list of others": lambda path: path.write_text('[{"trainable": 1}, 3]'),
    "no JSON": lambda path: path.write_bytes(b"\x89PNG"),
    "a folder": os.mkdir,
    "a pipe": os.mkfifo,
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_anything_else_may_not(tmp_path, make):
    make(tmp_path / "there")
    with pytest.raises(UserError, match="there is there already, and is not a list of findings"):
        check(tmp_path / "there")


def test_a_folder_for_results_is_none_whose_name_a_file_has(tmp_path):
    check_result_folder(tmp_path / "new" / "folder")
    check_result_folder(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is no folder"):
            check_result_folder(path)


@pytest.mark.parametrize("check_place", [check_result_folder, check], ids=["folder", "file"])
def test_a_place_that_may_not_be_written_to_is_refused(check_place):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:  # who may write everywhere
                os.seteuid(pwd.getpwnam("nobody").pw_uid)
            for path in (folder / "new", folder / "new" / "below"):
                with pytest.raises(UserError, match=f"can't go into .*: nothing can be written into {name}"):
                    check_place(path)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_an_input_is_known_under_its_other_names(tmp_path):
    (tmp_path / "input").write_text("content")
    (tmp_path / "link").symlink_to("input")
    os.link(tmp_path / "input", tmp_path / "second")
    (tmp_path / "copy").write_text("content")
    check_no_input([tmp_path / "copy", tmp_path / "new"], [tmp_path / "input", tmp_path / "absent"])
    for name in ("input", "link", "second"):
        with pytest.raises(UserError, match=f"{name} is the input, which stays as it is"):
            check_no_input([tmp_path / "new", tmp_path / name], [tmp_path / "input"])


@pytest.fixture
def folder(tmp_path):
    """A COCO set, and a label of labelme's beside an image."""
    write_set(tmp_path / "set")
    (tmp_path / "labels").mkdir()
    shutil.copy(tmp_path / "set" / "images" / "bag_0.png", tmp_path / "labels")
    (tmp_path / "labels" / "bag_0.json").write_text(json.dumps(LABEL))
    (tmp_path / "names.txt").write_text("gun\n")
    return tmp_path


SET = ("set/annotations.json", "set/images")
WRONG_PLACES = {
    "findings over a set": ("check", *SET, "--json", "set/annotations.json"),
    "findings over an image": ("check", *SET, "--json", "set/images/bag_1.png"),
    "a repaired set over an image": ("repair", *SET, "--overwrite", "--output", "set/images/bag_1.png"),
    "a repaired set over a folder": ("repair", *SET, "--overwrite", "--output", "set/images"),
    "changes over a label": ("repair", *SET, "--overwrite", "--output", "new.json", "--changes", "labels/bag_0.json"),
    "a converted set over a label": ("convert", "labelme", "labels", "--overwrite", "--output", "labels/bag_0.json"),
    "a converted set over text": ("convert", "labelme", "labels", "--overwrite", "--output", "names.txt"),
}


@pytest.mark.parametrize("arguments", WRONG_PLACES.values(), ids=WRONG_PLACES)
def test_tools_of_data_sets_leave_other_files_alone(folder, arguments, run_tool_here, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.chdir(folder)
    answer = run_tool_here(TOOL, *arguments)
    assert answer.returncode == 2 and "is there already, and is not a" in answer.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_tools_of_data_sets_replace_their_own_earlier_files(folder, run_tool_here, monkeypatch):
    monkeypatch.chdir(folder)
    for arguments in (
        ("check", *SET, "--json", "findings.json"),
        ("repair", *SET, "--overwrite", "--output", "repaired.json", "--changes", "changes.json"),
        ("convert", "labelme", "labels", "--overwrite", "--output", "converted.json"),
    ):
        codes = [run_tool_here(TOOL, *arguments).returncode for _ in range(2)]
        assert codes == [0, 0]


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    folder = tmp_path / "new" / "results"
    with sole_writer(folder):
        with pytest.raises(UserError, match="another process is writing results into"), sole_writer(folder):
            raise AssertionError
        (folder / "table.csv").touch()
    with sole_writer(folder):  # the first one has ended
        pass
    assert [path.name for path in folder.iterdir()] == ["table.csv"]


def test_a_folder_into_which_nothing_was_written_is_gone(tmp_path):
    with pytest.raises(RuntimeError), sole_writer(tmp_path / "results"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_the_process_before_removes_as_it_ends_is_made_again(tmp_path, monkeypatch):
    folder, flock = tmp_path / "results", fcntl.flock
    folder.mkdir()

    def late(*arguments):
        monkeypatch.setattr(fcntl, "flock", flock)
        folder.rmdir()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with sole_writer(folder):
        (folder / "table.csv").touch()


def test_what_is_made_in_one_place_is_made_by_one_process_and_after_a_killed_one(tmp_path):
    path = tmp_path / "new" / ("model" * 40 + ".onnx")
    with sole_maker(path) as folder:
        (folder / "half").touch()
        with pytest.raises(UserError, match=f"another process is writing results into {path}"), sole_maker(path):
            raise AssertionError
        with sole_maker(path.with_suffix(".ts")):
            pass
        left = shutil.copytree(folder, tmp_path / "left")
        (left / "below").mkdir()
    assert not (tmp_path / "new").exists()
    shutil.copytree(left, folder)
    with sole_maker(path) as folder:
        assert not list(folder.iterdir())
    assert not list(path.parent.iterdir())


def test_an_earlier_folder_stays_where_the_new_one_cannot_have_its_place(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "threats.json").touch()
    with pytest.raises(FileNotFoundError), sole_maker(folder) as work:
        replace_folder(folder, work / "never made")
    assert (folder / "threats.json").is_file() and list(tmp_path.iterdir()) == [folder]


def test_an_earlier_folder_is_back_where_its_replacement_was_killed_between_two_renames(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "threats.json").touch()
    killed = f"""
import os
from pathlib import Path
from xray_lazy.utils import results_place
folder = Path({str(folder)!r})
with results_place.sole_maker(folder) as work:
    (work / "new").mkdir()
    rename, Path.rename = Path.rename, lambda *paths: (rename(*paths), os._exit(9))
    results_place.replace_folder(folder, work / "new")
"""
    assert subprocess.run([sys.executable, "-c", killed]).returncode == 9 and not folder.exists()
    with pytest.raises(ZeroDivisionError), sole_maker(folder):
        assert (folder / "threats.json").is_file()
        raise ZeroDivisionError
    assert (folder / "threats.json").is_file() and list(tmp_path.iterdir()) == [folder]


def test_a_file_in_the_place_of_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "pseudo_labels").write_text("mine")
    with pytest.raises(UserError, match="is no folder"):
        check_replaceable(tmp_path / "pseudo_labels", "annotations.json", "it is another")


@pytest.mark.parametrize("command", ["split", "demo"])
def test_a_set_that_another_process_writes_is_left_to_it(tmp_path, run_tool_here, command):
    write_set(tmp_path / "export", count=8)
    words = [str(tmp_path / "export" / "annotations.json"), str(tmp_path / "export" / "images")]
    words = words if command == "split" else ["--train", "1", "--val", "1"]
    with sole_writer(tmp_path / "sets" / "images" / "smith"):
        answer = run_tool_here(
            ROOT / "tools" / "dataset.py", command, *words, "--scanner", "smith", "--output", str(tmp_path / "sets")
        )
    assert answer.returncode == 2 and "another process is writing results" in answer.stderr
    assert not (tmp_path / "sets" / "annotations").exists()


@pytest.mark.parametrize(
    "arguments", [("repair", *SET), ("convert", "labelme", "labels")], ids=["a repaired set", "a converted set"]
)
def test_a_file_that_another_process_makes_is_left_to_it(folder, arguments, run_tool_here, monkeypatch):
    monkeypatch.chdir(folder)
    with sole_maker(folder / "new.json"):
        answer = run_tool_here(TOOL, *arguments, "--output", "new.json")
    assert answer.returncode == 2 and "another process is writing results into new.json" in answer.stderr
    assert not (folder / "new.json").exists()


def test_a_record_keeps_what_was_written_before_and_is_still_there(tmp_path):
    for name in ("train.json", "val.json", "old.json"):
        (tmp_path / name).write_text(name)
        record_written(tmp_path, [name])
    (tmp_path / "old.json").unlink()
    record_written(tmp_path, ["val.json"])
    check_as_written([tmp_path / "train.json", tmp_path / "val.json"])
    (tmp_path / "old.json").write_text("made by hand")
    with pytest.raises(UserError, match="made by hand"):
        check_as_written([tmp_path / "old.json"])


def test_a_folder_that_is_deleted_while_results_are_written_is_told(tmp_path):
    folder = tmp_path / "results"
    with pytest.raises(RunFailure, match="was deleted or moved away"), sole_writer(folder):
        (folder / "first.csv").touch()
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "second.csv").touch()
    assert (folder / "second.csv").exists()
