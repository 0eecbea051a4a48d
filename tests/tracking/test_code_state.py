"""What is recorded of the code that ran."""

import checkout as checkouts
import pytest

from xray_lazy.tracking.code_state import LARGEST_DIFF, git_diff, git_state


@pytest.fixture
def checkout(tmp_path):
    return checkouts.make_checkout(tmp_path / "checkout")


def test_commit_branch_and_remote_are_named_and_changes_seen(checkout):
    commit = checkouts.git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout) == {"commit": commit, "branch": "trunk", "remote": None, "dirty": False}
    (checkout / "code.py").write_text("a = 2\n")
    assert git_state(checkout)["dirty"]
    checkouts.git(checkout, "checkout", "-q", "--detach")
    assert git_state(checkout)["branch"] is None


def test_a_password_in_the_remotes_address_is_not_recorded(checkout):
    checkouts.git(checkout, "remote", "add", "origin", "https://me:hunter2@example.org/code.git")
    assert git_state(checkout)["remote"] == "https://***@example.org/code.git"


def test_without_a_checkout_or_without_git_there_is_nothing(tmp_path, checkout, monkeypatch):
    assert git_state(tmp_path) is None
    assert git_diff(tmp_path) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) is None
    assert git_diff(checkout) == ""


def test_the_diff_brings_the_commit_to_what_ran(checkout, tmp_path):
    (checkout / "code.py").write_text("a = 2\nb = 'ü'\n")
    (checkout / "new.py").write_text("c = 3\n")
    checkouts.git(checkout, "add", "new.py")
    patch = tmp_path / "code.diff"
    patch.write_text(git_diff(checkout))
    checkouts.git(checkout, "reset", "-q", "--hard")
    checkouts.git(checkout, "apply", str(patch))
    assert (checkout / "code.py").read_text() == "a = 2\nb = 'ü'\n"
    assert (checkout / "new.py").read_text() == "c = 3\n"


def test_a_diff_is_free_of_secrets_and_bounded(checkout):
    (checkout / "code.py").write_text('api_key = "abcdefghijk"\n')
    assert '+api_key = "***"' in git_diff(checkout)
    (checkout / "code.py").write_text("number\n" * LARGEST_DIFF)
    diff = git_diff(checkout)
    assert len(diff) < LARGEST_DIFF + 100
    assert diff.splitlines()[-1].startswith("# cut off: the whole diff has ")
