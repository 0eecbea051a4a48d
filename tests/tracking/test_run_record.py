"""run.json."""

import json
import subprocess

import pytest
from omegaconf import OmegaConf

from xray_lazy.errors import UserError
from xray_lazy.tracking.run_record import RunRecord, git_state


@pytest.fixture
def cfg(tmp_path):
    output = {"output_dir": str(tmp_path / "run"), "seed": 42}
    return OmegaConf.create({"train": output, "lr": 0.1, "warmup": "${lr}"})


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "init", "-q", "-b", "trunk")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return folder


def git(folder, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_it_is_read_as_it_was_written(cfg, tmp_path):
    record = RunRecord.collect(cfg, ["lr=0.1"], world_size=4)
    record.write(tmp_path / "run.json")
    read = RunRecord.read(tmp_path / "run.json")
    assert read.config == {"train": {"output_dir": str(tmp_path / "run"), "seed": 42}, "lr": 0.1, "warmup": 0.1}
    assert (read.overrides, read.world_size, read.seed) == (["lr=0.1"], 4, 42)
    assert read.versions["torch"] and read.devices and read.host
    assert [start["start_time"] for start in read.starts] == [record.start_time]


def test_a_resumed_run_keeps_its_wandb_id_and_the_history_of_its_starts(cfg, tmp_path):
    path = tmp_path / "run" / "run.json"
    first = RunRecord.collect(cfg)
    first.start_time, first.wandb_id = "2026-01-01T10:00:00+00:00", "abc12345"
    first.write(path)
    second = RunRecord.collect(cfg, resumed=True)
    second.start_iteration = 500
    second.write(path)
    second.write(path)
    content = json.loads(path.read_text())
    assert content["wandb_id"] == "abc12345"
    assert [start["start_iteration"] for start in content["starts"]] == [0, 500]
    assert content["starts"][0]["start_time"] == "2026-01-01T10:00:00+00:00"


def test_a_new_run_in_the_same_folder_has_no_past(cfg, tmp_path):
    first = RunRecord.collect(cfg)
    first.wandb_id = "abc12345"
    first.write(tmp_path / "run" / "run.json")
    second = RunRecord.collect(cfg)
    assert (second.wandb_id, second.starts) == (None, [])


def test_functions_and_tuples_in_a_config_become_names_and_lists(tmp_path):
    values = {"_target_": git_state, "sizes": (1, 2), "train": {"output_dir": str(tmp_path)}}
    record = RunRecord.collect(OmegaConf.create(values, flags={"allow_objects": True}))
    assert record.config["_target_"] == "xray_lazy.tracking.run_record.git_state"
    assert record.config["sizes"] == [1, 2]
    assert record.seed is None


def test_git_state_names_commit_and_branch_and_sees_changes(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout) == {"commit": commit, "branch": "trunk", "dirty": False}
    (checkout / "code.py").write_text("a = 2\n")
    assert git_state(checkout)["dirty"]
    git(checkout, "checkout", "-q", "--detach")
    assert git_state(checkout)["branch"] is None


def test_without_a_checkout_or_without_git_there_is_no_git_state(tmp_path, checkout, monkeypatch):
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(checkout) is None


@pytest.mark.parametrize("content", ["", "[]", '{"command": "x"}', '{"config": '])
def test_a_file_that_is_no_record_is_a_clear_error(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is not a run record"):
        RunRecord.read(tmp_path / "run.json")
    with pytest.raises(UserError, match="there is no run record"):
        RunRecord.read(tmp_path / "absent.json")
