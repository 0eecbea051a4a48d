"""Why a run failed is in its folder: of the process that failed first, until the next start."""

import errno
import multiprocessing
import os

import pytest

from tests.patience import exit_codes
from xray_lazy.command_line import run_tool
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import FAILURE_FILE, PLACE, RUN_ID, START, Failure, read_failure, tell_failures_in


def fail(error, **options):
    def main():
        raise error

    with pytest.raises((SystemExit, type(error))):
        run_tool(main, **options)


@pytest.mark.parametrize("options", [{}, {"debug": True}])
def test_a_tool_that_fails_tells_why_in_its_runs_folder(tmp_path, capsys, options):
    tell_failures_in(tmp_path)
    fail(UserError("there is no a.json\n  in b", "name another"), **options)
    told = read_failure(tmp_path / FAILURE_FILE)
    assert (told.message, told.headline, told.fix) == (
        "there is no a.json\n  in b",
        "there is no a.json",
        "name another",
    )
    assert (told.exit_code, told.exception, told.rank) == (2, "UserError", 0)
    assert told.host and told.time and "in main" in told.traceback
    fail(UserError("another tool, which has no run"))
    assert read_failure(tmp_path / FAILURE_FILE) == told


def test_what_fails_before_the_run_has_a_folder_tells_it_where_the_environment_says(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(PLACE, str(tmp_path / RUN_ID / FAILURE_FILE))
    monkeypatch.setenv("WANDB_RUN_ID", "a1")
    monkeypatch.setenv("RANK", "3")
    fail(KeyError("x"))
    told = read_failure(tmp_path / "a1" / FAILURE_FILE)
    assert (told.message, told.exit_code, told.rank) == ("KeyError: 'x'", 1, 3)


def test_an_interrupt_is_told(tmp_path, capsys):
    tell_failures_in(tmp_path)
    fail(KeyboardInterrupt())
    assert read_failure(tmp_path / FAILURE_FILE).exit_code == 130


def test_where_the_failure_cannot_be_written_the_error_itself_is_printed(tmp_path, capsys):
    tell_failures_in(tmp_path / "file" / "below")
    (tmp_path / "file").touch()
    fail(OSError(errno.ENOSPC, "No space"))
    assert "error: the disk is full" in capsys.readouterr().err


def _write(path, rank, barrier):
    barrier.wait()
    Failure(f"of {rank}", rank=rank).write(path)


def test_of_processes_that_fail_at_once_one_is_heard_and_the_file_is_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    path = tmp_path / FAILURE_FILE
    processes = [context.Process(target=_write, args=(path, rank, barrier)) for rank in range(8)]
    for process in processes:
        process.start()
    assert exit_codes(processes) == [0] * 8
    told = read_failure(path)
    assert told.message == f"of {told.rank}" and os.listdir(tmp_path) == [FAILURE_FILE]
    assert not Failure("later", rank=9).write(path)


def test_a_failure_replaces_that_of_an_earlier_start(tmp_path, monkeypatch):
    path = tmp_path / FAILURE_FILE
    assert Failure("earlier").write(path)
    monkeypatch.setenv(START, "7.2")
    assert Failure("now").write(path) and not Failure("after it").write(path)
    assert read_failure(path).message == "now"


def test_the_first_is_also_heard_where_a_file_system_has_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / FAILURE_FILE
    assert Failure("first").write(path)
    assert not Failure("second").write(path)
    assert read_failure(path).message == "first" and os.listdir(tmp_path) == [FAILURE_FILE]


@pytest.mark.parametrize("content", [None, "", "[1]", '{"message": "cut o', "{}"])
def test_a_file_that_is_not_there_or_damaged_tells_of_no_failure(tmp_path, content):
    if content is not None:
        (tmp_path / FAILURE_FILE).write_text(content)
    assert read_failure(tmp_path / FAILURE_FILE) is None


@pytest.mark.parametrize("error", [UserError("a", "b"), RunFailure("a", "b")])
def test_the_error_can_be_raised_again(error):
    again = Failure.of(error, rank=2).error()
    assert type(again) is type(error) and str(again) == str(error)


def test_a_rank_that_is_no_number_hides_no_error(monkeypatch):
    monkeypatch.setenv("RANK", "abc")
    assert Failure.of(UserError("there is no a.json")).rank == 0
