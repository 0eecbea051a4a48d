"""run.json."""

import json
import sys

import checkout as checkouts
import pytest
from omegaconf import OmegaConf

from xray_lazy.errors import UserError
from xray_lazy.tracking.code_state import git_state
from xray_lazy.tracking.run_record import RunRecord


@pytest.fixture
def cfg(tmp_path):
    output = {"output_dir": str(tmp_path / "run"), "seed": 42}
    return OmegaConf.create({"train": output, "lr": 0.1, "warmup": "${lr}"})


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """The run's working folder, with a change since its commit."""
    folder = checkouts.make_checkout(tmp_path / "checkout")
    (folder / "code.py").write_text("a = 2\n")
    monkeypatch.chdir(folder)
    return folder


def test_it_is_read_as_it_was_written(cfg, tmp_path):
    record = RunRecord.collect(cfg, ["lr=0.1"], world_size=4)
    record.write(tmp_path / "run.json")
    read = RunRecord.read(tmp_path / "run.json")
    assert read.config == {"train": {"output_dir": str(tmp_path / "run"), "seed": 42}, "lr": 0.1, "warmup": 0.1}
    assert (read.overrides, read.world_size, read.seed) == (["lr=0.1"], 4, 42)
    assert read.versions["torch"] and read.devices and read.host
    assert read.machine["os"] and read.machine["memory_gib"] > 0
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
    assert record.config["_target_"] == "xray_lazy.tracking.code_state.git_state"
    assert record.config["sizes"] == [1, 2]
    assert record.seed is None


def test_what_was_changed_in_the_code_lies_beside_the_record(cfg, checkout, tmp_path):
    record = RunRecord.collect(cfg)
    assert record.write_diff() == tmp_path / "run" / "code.diff"
    assert "-a = 1\n+a = 2\n" in (tmp_path / "run" / "code.diff").read_text()
    record.write(tmp_path / "run" / "run.json")
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["git"]["diff"] == content["starts"][0]["git"]["diff"] == "code.diff"


def test_a_resumed_run_with_other_code_keeps_both_diffs(cfg, checkout, tmp_path):
    RunRecord.collect(cfg).write_diff()
    resumed = RunRecord.collect(cfg, resumed=True)
    resumed.start_iteration = 500
    assert resumed.write_diff().name == "code.diff"
    (checkout / "code.py").write_text("a = 3\n")
    assert resumed.write_diff().name == "code_0000500.diff"
    assert "+a = 2" in (tmp_path / "run" / "code.diff").read_text()


def test_a_job_that_always_says_resume_has_its_first_diff_under_the_usual_name(cfg, checkout):
    assert RunRecord.collect(cfg, resumed=True).write_diff().name == "code.diff"


def test_code_as_it_was_committed_has_no_diff(cfg, checkout, tmp_path):
    (checkout / "code.py").write_text("a = 1\n")
    record = RunRecord.collect(cfg)
    assert record.write_diff() is None
    assert "diff" not in record.git and not (tmp_path / "run" / "code.diff").exists()


def test_no_secret_gets_into_the_record(tmp_path, checkout, monkeypatch):
    key = "0123456789abcdef" * 2
    monkeypatch.setenv("WANDB_API_KEY", key)
    url = "https://me:hunter2@example.org/w.pth"
    checkouts.git(checkout, "remote", "add", "origin", url)
    (checkout / "code.py").write_text(f"key = '{key}'\n")
    overrides = [f"train.init_checkpoint={url}", "store.password=hunter2", f"note={key}"]
    monkeypatch.setattr(sys, "argv", ["lazy_train.py", *overrides])
    cfg = {"train": {"output_dir": str(tmp_path / "run"), "init_checkpoint": url}, "store": {"password": "hunter2"}}
    record = RunRecord.collect(OmegaConf.create({**cfg, "note": key}), overrides)
    record.write_diff()
    record.write(tmp_path / "run" / "run.json")
    for path in (tmp_path / "run").iterdir():
        assert "hunter2" not in path.read_text() and key not in path.read_text(), path
    assert record.overrides == ["train.init_checkpoint=https://***@example.org/w.pth", "store.password=***", "note=***"]


@pytest.mark.parametrize("content", ["", "[]", '{"command": "x"}', '{"config": '])
def test_a_file_that_is_no_record_is_a_clear_error(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json is not a run record"):
        RunRecord.read(tmp_path / "run.json")
    with pytest.raises(UserError, match="there is no run record"):
        RunRecord.read(tmp_path / "absent.json")
