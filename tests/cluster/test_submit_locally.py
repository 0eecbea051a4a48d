"""tools/submit.py with jobs on this machine: the whole way of a job but for the queue."""

import json

import pytest

from tests.cluster.real_jobs import CONFIG, HOLD, wait_until
from tests.cluster.submit_tool import TOOL, run_tool, submit
from xray_lazy.cluster.job_record import read_records
from xray_lazy.config import load_config
from xray_lazy.tracking.code_state import git_state

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("job_environment")]
FAIL = "+hooks.fail={_target_: tests.engine.hooks_for_tests.FailInOneProcessAt, iteration: 1}"


def test_a_job_of_two_processes_is_followed_to_its_end(tmp_path):
    folder = tmp_path / "run"
    shown = submit(folder, "--executor", "local", "--tasks-per-node", 2, "--follow")
    assert f"saved {folder}/model_final.pth" in shown and "finished" in shown
    record = json.loads((folder / "run.json").read_text())
    assert record["world_size"] == 2 and f"train.output_dir={folder}" in record["overrides"]
    assert record["command"].startswith(TOOL) and f"--config-file {CONFIG}" in record["command"]
    (job,) = read_records(folder)
    assert {key: record["git"][key] for key in job.git} == job.git == git_state(job.code)
    assert (folder / "code").is_dir() and job.code.startswith(str(folder / "code"))
    table = run_tool("status", folder)
    assert "finished" in table and "2/2" in table and "total_loss" in table
    assert "nothing to submit again" in run_tool("resubmit", folder, code=2)
    assert "no job waits or runs" in run_tool("cancel", folder)


def test_jobs_of_an_array_have_folders_of_their_own_and_run_one_after_the_other(tmp_path):
    shown = submit(tmp_path / "array", "--executor", "local", "train.seed=1,2", "train.max_iter=1", "--wait")
    assert "2 jobs" in shown
    for seed in (1, 2):
        folder = tmp_path / "array" / f"seed={seed}"
        assert load_config(folder / "config.yaml").train.seed == seed
        assert (folder / "model_final.pth").is_file()
    first, second = ((tmp_path / "array" / f"seed={seed}" / "log.txt").stat() for seed in (1, 2))
    assert first.st_mtime < second.st_mtime
    assert len(list((tmp_path / "array" / "code").iterdir())) == 1


def test_of_several_jobs_no_log_can_be_followed(tmp_path):
    shown = submit(tmp_path / "array", "--executor", "local", "train.seed=1,2", "--follow", code=2)
    assert "there are 2 jobs" in shown and not (tmp_path / "array").exists()


def test_a_cancelled_job_saves_and_goes_on_when_it_is_submitted_again(tmp_path):
    folder = tmp_path / "run"
    submit(folder, "--executor", "local", HOLD.format(0))
    wait_until((folder / "held").exists, folder)
    assert "running" in run_tool("status", folder)
    refused = submit(folder, "--executor", "local", HOLD.format(0), code=2)
    assert "works on" in refused and f"cancel {folder}" in refused
    assert "cancelled: " in run_tool("cancel", folder)
    assert "stopped: " in run_tool("status", folder)
    assert (folder / "last_checkpoint").read_text() == "model_0000000.pth"
    run_tool("resubmit", folder)
    run_tool("wait", folder)
    assert "finished" in run_tool("status", folder)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [start["start_iteration"] for start in starts] == [0, 1]


def test_a_failed_job_tells_its_reason_and_the_end_of_its_log(tmp_path):
    shown = submit(tmp_path / "run", "--executor", "local", "--tasks-per-node", 2, FAIL, "--wait", code=1)
    assert "failed: this process can't read its images" in shown and "fix: buy a new disk" in shown
    assert "_1_log.out" in run_tool("status", tmp_path / "run")


def test_the_executor_debug_runs_here(tmp_path):
    shown = submit(tmp_path / "run", "--executor", "debug", "train.max_iter=1")
    assert f"saved {tmp_path}/run/model_final.pth" in shown
