"""What W&B's recording knows of a run's circumstances, and what it must not know."""

import sys

import checkout as checkouts
import offline_run_file as recorded
import pytest
from omegaconf import OmegaConf

from xray_lazy.tracking.run_record import RunRecord
from xray_lazy.tracking.wandb import WandbWriter

URL = "https://hunter2hunter2:x-oauth-basic@example.org/code.git"


@pytest.fixture
def recording(logged_out, tmp_path, monkeypatch):
    """A recorded run of changed code, whose command, remote, config and environment have secrets in them."""
    folder = checkouts.make_checkout(tmp_path / "checkout")
    checkouts.git(folder, "remote", "add", "origin", URL)
    (folder / "code.py").write_text("a = 2\npassword = 'hunter2hunter2'\n")
    monkeypatch.chdir(folder)
    logged_out.setenv("WANDB_API_KEY", "0123456789abcdef" * 2)
    monkeypatch.setattr(sys, "argv", ["lazy_train.py", f"train.init_checkpoint={URL}", "0123456789abcdef" * 2])
    output = tmp_path / "run"
    run = RunRecord.collect(OmegaConf.create({"train": {"output_dir": str(output), "init_checkpoint": URL}}))
    run.datasets = {"train": {"name": "bags", "pictures": 8, "files": {"bags.json": "abc"}}}
    run.write_diff()
    writer = WandbWriter("xray", str(output), mode="offline")
    writer.start(run)
    writer.close()
    return recorded.read_finished(output), output, checkouts.git(folder, "rev-parse", "HEAD")


def test_machine_data_sets_and_code_are_in_the_config(recording):
    records, _, commit = recording
    facts = recorded.config(records)["run"]
    assert facts["datasets"]["train"]["files"] == {"bags.json": "abc"}
    assert facts["machine"]["os"]
    assert (facts["git"]["commit"], facts["git"]["diff"]) == (commit, "code.diff")


def test_the_diff_is_a_file_of_the_run(recording):
    records, output, _ = recording
    (copy,) = output.glob("wandb/offline-run-*/files/code.diff")
    assert "+a = 2" in copy.read_text()
    files = [
        file.path for record in records for file in record.files.files if record.WhichOneof("record_type") == "files"
    ]
    assert "code.diff" in files


def test_w_and_b_itself_knows_commit_and_remote(recording):
    records, _, commit = recording
    git = recorded.run(records).git
    assert (git.commit, git.remote_url) == (commit, "https://***@example.org/code.git")


def test_no_secret_is_in_any_file(recording):
    _, output, _ = recording
    files = [path for path in output.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for path in files:
        content = path.read_bytes()
        assert b"hunter2" not in content and b"0123456789abcdef" not in content, path
