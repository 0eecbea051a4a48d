"""A file is written whole or not at all."""

import errno
import fcntl
import os
import stat
import time

import pytest

from xray_lazy.utils.atomic_file import ABANDONED_SECONDS, atomic_writer, write_json, write_text


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_writer(tmp_path / "a.txt") as stream:
        stream.write(b"half of the ne")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_folders_are_made_and_text_is_utf_8(tmp_path):
    write_json(tmp_path / "new" / "folder" / "a.json", {"class": "Küchenmesser 刀"})
    assert "Küchenmesser 刀".encode() in (tmp_path / "new" / "folder" / "a.json").read_bytes()


def test_others_may_read_it_as_the_umask_says(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "written", "")
    assert stat.S_IMODE(os.stat(tmp_path / "written").st_mode) == stat.S_IMODE(os.stat(tmp_path / "plain").st_mode)


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "刀" * 83 + ".txt"])
def test_a_name_may_be_as_long_as_the_disk_takes(tmp_path, name):
    write_text(tmp_path / name, "content")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_only_a_file_is_replaced(tmp_path, make):
    make(tmp_path / "there")
    with pytest.raises(OSError, match="there"):
        write_text(tmp_path / "there", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not (tmp_path / "there").is_file()


def test_what_a_killed_process_left_is_removed_and_what_others_write_or_own_stays(tmp_path):
    long_ago = time.time() - 2 * ABANDONED_SECONDS
    names = (".a.png.abandone.tmp", ".b.png.lockedup.tmp", ".c.png.justnow_.tmp", ".of_a_person.tmp")
    left, locked, new, other = (tmp_path / name for name in names)
    for path in (left, locked, new, other):
        path.write_bytes(b"half")
        if path != new:
            os.utime(path, (long_ago, long_ago))
    with open(locked, "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        write_text(tmp_path / "a.txt", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {locked.name, new.name, other.name, "a.txt"}


def test_what_is_being_written_is_locked(tmp_path):
    with atomic_writer(tmp_path / "a.txt"):
        (temporary,) = tmp_path.iterdir()
        with open(temporary, "r+b") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("said", ["", "picture.png"])
def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path, said):
    refused = OSError(errno.ENOSPC, "No space left on device", said) if said else OSError(errno.ENOSPC, "No space")
    with pytest.raises(OSError, match=said or "results.json"), atomic_writer(tmp_path / "results.json"):
        raise refused
    assert not list(tmp_path.iterdir())
