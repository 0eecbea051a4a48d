"""What the processes of a machine share: made once, mapped by the others, gone with the last."""

import errno
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.data.coco_sets import reference, write_set
from xray_lazy.data import datasets
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.memory.shared_object import shared_object
from xray_lazy.errors import UserError


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def numbers(first):
    return {"numbers": np.arange(first, first + 1000), "name": f"from {first}"}


def unwanted():
    raise AssertionError("it is there already")


@pytest.fixture
def other_process():
    """A process that has made the object "numbers" from 5 on, and lives."""
    code = """
        import sys
        from tests.data.test_shared_object import numbers, shared_object
        made = shared_object("numbers", lambda: numbers(5))
        print("made", flush=True)
        sys.stdin.read()
    """
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "made\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_process_has_made_is_taken_over_in_its_memory(other_process):
    found = shared_object("numbers", unwanted)
    assert found["name"] == "from 5" and found["numbers"].tolist() == list(range(5, 1005))
    with pytest.raises(ValueError, match="read-only"):
        found["numbers"][0] = 1
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/memfd:xray_lazy_" in line]
    assert mapped
    assert shared_object("others", lambda: numbers(7))["name"] == "from 7"


def test_it_outlives_its_maker_where_it_is_mapped_and_is_made_anew_where_not(other_process, temporary_folder):
    found = shared_object("numbers", unwanted)
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    anew = shared_object("numbers", lambda: numbers(6))
    assert found["numbers"][0] == 5 and anew["numbers"][0] == 6
    assert shared_object("numbers", unwanted)["numbers"][0] == 6
    del anew, found
    assert shared_object("numbers", lambda: numbers(7))["numbers"][0] == 7
    shared_object("others", lambda: numbers(8))  # takes away the links that lead nowhere
    (folder,) = temporary_folder.iterdir()
    assert len(list(folder.glob("xray_lazy_*"))) == 1


def test_a_link_to_another_file_is_not_followed(tmp_path, temporary_folder):
    kept = shared_object("numbers", lambda: numbers(1))
    (link,) = temporary_folder.glob("*/xray_lazy_*")
    (tmp_path / "other").write_bytes(b"something else")
    with open(tmp_path / "other") as other:
        link.unlink()
        link.symlink_to(f"/proc/{os.getpid()}/fd/{other.fileno()}")
        assert shared_object("numbers", lambda: numbers(2))["numbers"][0] == 2
    assert kept["numbers"][0] == 1


def test_a_folder_that_is_open_to_others_is_not_trusted(temporary_folder):
    kept = shared_object("numbers", lambda: numbers(1))
    (folder,) = temporary_folder.iterdir()
    folder.chmod(0o777)
    assert shared_object("numbers", lambda: numbers(2))["numbers"][0] == 2 != kept["numbers"][0]


def without_locks(folder, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", functools.partial(raise_error, OSError(errno.ENOSYS, "no locks")))


def without_a_lock_file(folder, monkeypatch):
    (folder / "lock").mkdir()


def without_room_for_the_link(folder, monkeypatch):
    monkeypatch.setattr(Path, "symlink_to", functools.partial(raise_error, OSError(errno.EDQUOT, "quota")))


def raise_error(error, *_):
    raise error


@pytest.mark.parametrize("disturb", [without_locks, without_a_lock_file, without_room_for_the_link])
def test_where_nothing_can_be_shared_each_process_makes_its_own_once(temporary_folder, monkeypatch, disturb):
    folder = temporary_folder / f"xray_lazy_{os.getuid()}"
    folder.mkdir(mode=0o700)
    disturb(folder, monkeypatch)
    open_files, made = len(os.listdir("/proc/self/fd")), []
    shared_object("numbers", lambda: made.append(1))
    assert made == [1] and len(os.listdir("/proc/self/fd")) == open_files


def test_what_cannot_be_made_is_an_error_and_hinders_nobody():
    with pytest.raises(UserError, match="no such set"):
        shared_object("numbers", lambda: (_ for _ in ()).throw(UserError("no such set", "make one")))
    assert shared_object("numbers", lambda: numbers(3))["numbers"][0] == 3


def test_processes_read_the_annotations_of_a_set_once_and_all_tell_of_its_faults(tmp_path):
    content = write_set(tmp_path / "set")
    content["annotations"][0]["category_id"] = 99
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(content))
    where = reference(tmp_path / "set")
    kept = load_datasets(where)
    code = f"""
        from xray_lazy.data import datasets
        datasets.read_coco = None
        print(*(record["image_id"] for record in datasets.load_datasets({where!r})))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "left out 1 annotation" in answer.stderr
    assert answer.stdout.split() == [str(record["image_id"]) for record in kept]
    assert [r["image_id"] for r in load_datasets(where, max_pictures=2)] == [kept[0]["image_id"], kept[-1]["image_id"]]


def test_a_set_that_has_changed_is_read_again(tmp_path):
    write_set(tmp_path / "set")
    where = reference(tmp_path / "set")
    first = load_datasets(where)
    file = Path(where["json_file"])
    text, times = file.read_text(), file.stat()
    changed = text.replace('"iscrowd": 0', '"iscrowd": 1')
    assert len(changed) == len(text) and changed != text
    file.write_text(changed)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as copying with its times does
    datasets._load.cache_clear()
    crowds = [sum(a["iscrowd"] for r in dataset for a in r["annotations"]) for dataset in (first, load_datasets(where))]
    assert crowds[0] < crowds[1]
