"""Snapshots of the code: what is in them, and that jobs import from them."""

import os
import subprocess

import pytest

from xray_lazy.cluster import snapshot
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.executors import write_start_script
from xray_lazy.cluster.snapshot import find_checkout, import_paths, take_snapshot
from xray_lazy.errors import UserError
from xray_lazy.tracking.code_state import KEPT_FILE, git_diff, git_state


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    (root / "package").mkdir(parents=True)
    (root / "package" / "tracked.py").write_text("old")
    (root / "package" / "deleted.py").write_text("")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / ".gitignore").write_text("output/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "start")
    (root / "package" / "tracked.py").write_text("changed")
    (root / "package" / "deleted.py").unlink()
    (root / "new with ü.py").write_text("new")
    (root / "link.py").symlink_to("package/tracked.py")
    (root / "output").mkdir()
    (root / "output" / "model.pth").write_text("ignored")
    return root


def git(root, *arguments):
    subprocess.run(["git", "-C", str(root), *arguments], check=True)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_it_holds_tracked_changed_and_new_files_and_nothing_that_git_ignores(checkout, tmp_path):
    code = take_snapshot(tmp_path / "store", checkout)
    assert files(code) == [KEPT_FILE, ".gitignore", "link.py", "new with ü.py", "package/tracked.py", "run.sh"]
    assert (code / "package" / "tracked.py").read_text() == "changed"
    assert (code / "link.py").is_symlink() and os.access(code / "run.sh", os.X_OK)


def test_two_that_submit_the_same_code_at_once_share_it(checkout, tmp_path, monkeypatch):
    store = tmp_path / "store"

    def be_slower(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "keep_git_state", keep_git_state)
            others.append(take_snapshot(store, checkout))
        keep_git_state(*arguments)

    others, keep_git_state = [], snapshot.keep_git_state
    monkeypatch.setattr(snapshot, "keep_git_state", be_slower)
    assert [take_snapshot(store, checkout)] == others
    assert list(store.iterdir()) == others


def test_the_same_code_is_kept_once_and_other_code_beside_it(checkout, tmp_path):
    store = tmp_path / "store"
    first = take_snapshot(store, checkout)
    assert take_snapshot(store, checkout) == first
    (checkout / "package" / "tracked.py").write_text("changed again")
    second = take_snapshot(store, checkout)
    assert second != first and (first / "package" / "tracked.py").read_text() == "changed"
    (checkout / "run.sh").chmod(0o644)
    assert take_snapshot(store, checkout) not in (first, second)
    assert len(list(store.iterdir())) == 3


def test_it_tells_the_git_state_that_its_code_had_whatever_becomes_of_the_checkout(checkout, tmp_path):
    state, diff = git_state(checkout), git_diff(checkout)
    assert state["dirty"] and "+changed" in diff
    code = take_snapshot(tmp_path / "store", checkout)
    git(checkout, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "-m", "later")
    assert (git_state(code), git_diff(code)) == (state, diff)


def test_too_much_for_a_snapshot_names_the_largest_files(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_MEGABYTES", 1)
    (checkout / "weights.bin").write_bytes(bytes(1_500_000))
    with pytest.raises(UserError, match=r"(?s)at most 1:.*1\.5 MB  weights\.bin.*\.gitignore"):
        take_snapshot(tmp_path / "store", checkout)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_a_user_error(checkout, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't copy the code"):
        take_snapshot(tmp_path / "file" / "store", checkout)


def test_an_installed_package_has_no_snapshot(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot.xray_lazy, "__file__", str(tmp_path / "site-packages" / "xray_lazy" / "__init__.py"))
    assert find_checkout() is None
    assert take_snapshot(tmp_path / "store") is None


def test_a_job_imports_the_library_and_the_projects_from_the_snapshot(tmp_path):
    if find_checkout() is None:
        pytest.skip("the tests don't run from a git checkout")
    code = take_snapshot(tmp_path / "store")
    script = write_start_script(Profile(setup=["export GREETING='hello you'"]), tmp_path, code, tmp_path)
    show = "import os, xray_lazy, sparse_rcnn; print(xray_lazy.__file__, sparse_rcnn.__file__, os.environ['GREETING'])"
    # from the checkout, whose folder Python would look into first
    answer = subprocess.run(
        ["bash", script, "-c", show], cwd=find_checkout(), capture_output=True, text=True, check=True
    )
    library, project, *greeting = answer.stdout.split()
    assert library == f"{code}/xray_lazy/__init__.py"
    assert project == f"{import_paths(code)[1]}/sparse_rcnn/__init__.py"
    assert greeting == ["hello", "you"]


def test_a_job_on_slurm_that_is_told_to_leave_before_it_listens_starts_on(tmp_path):
    setup = ["kill -USR2 $$", "kill -TERM $$", "(kill -USR2 $BASHPID; echo copied)"]
    script = write_start_script(Profile(executor="slurm", setup=setup), tmp_path, None, tmp_path)
    show = "import os; os.kill(os.getpid(), 12); print('started')"
    answer = subprocess.run(["bash", script, "-c", show], capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (0, "copied\nstarted\n")


def test_the_start_script_of_a_container_binds_the_folders_and_has_an_own_python(tmp_path):
    profile = Profile(container="/images/a b.sif", gpus_per_node=1)
    text = write_start_script(profile, tmp_path / "jobs", tmp_path / "code", tmp_path, {"NAME": "a b"}).read_text()
    assert f"apptainer exec --nv --bind {tmp_path}/code,{tmp_path},{tmp_path}/jobs '/images/a b.sif' python" in text
    assert "export NAME='a b'" in text
