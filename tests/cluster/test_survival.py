"""Jobs on a real SLURM: what happens to them, and what is left of them."""

import json
import os
import signal
import subprocess
import time

import pytest

from tests.cluster.real_jobs import CONFIG, HOLD, QUICK, logs_of, slurm, submit, submit_job, wait_for_end, wait_until
from tests.engine.quick_processes import run_group
from tests.engine.test_run import assert_same_weights, losses_of, weights_of
from xray_lazy.cluster.job import CommandJob
from xray_lazy.cluster.job_state import read_state
from xray_lazy.engine.run import RunOptions, run

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("job_environment")]


def assert_undisturbed(folder, other, processes):
    """The run in `folder` has the weights and the log of one of local processes that nothing happened to."""
    run_group(run, RunOptions(CONFIG, [f"train.output_dir={other}", *QUICK]), processes=processes)
    assert_same_weights(weights_of(folder / "model_final.pth"), weights_of(other / "model_final.pth"))
    assert losses_of(folder) == losses_of(other)


def test_two_nodes_of_two_tasks_train_as_four_local_processes_do(tmp_path):
    job = submit(tmp_path / "job", nodes=2, tasks=2)
    assert wait_for_end(job, tmp_path / "job") == "COMPLETED", logs_of(tmp_path / "job")
    assert read_state(tmp_path / "job").state == "finished"
    assert json.loads((tmp_path / "job" / "run.json").read_text())["world_size"] == 4
    assert_undisturbed(tmp_path / "job", tmp_path / "local", processes=4)


def test_a_preempted_job_goes_on_as_if_nothing_had_happened(tmp_path):
    folder = tmp_path / "job"
    job = submit(folder, HOLD.format(2), "writers.wandb.mode=offline", nodes=2)
    wait_until((folder / "held").exists, folder)
    slurm("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    assert wait_for_end(job, folder) == "COMPLETED", logs_of(folder)
    state = read_state(folder)
    assert (state.state, state.starts, state.preemptions, state.timeouts) == ("finished", 2, 1, 0)
    record = json.loads((folder / "run.json").read_text())
    assert [start["start_iteration"] for start in record["starts"]] == [0, 3]
    assert len(list((folder / "wandb").glob(f"offline-run-*-{record['wandb_id']}"))) == 2
    assert_undisturbed(folder, tmp_path / "local", processes=2)


def test_jobs_at_their_time_limit_go_on_as_often_as_they_may(tmp_path):
    again = submit(tmp_path / "again", HOLD.format(2), max_timeouts=1, signal_delay=60)
    never = submit(tmp_path / "never", HOLD.format(2), max_timeouts=0, signal_delay=60)
    for job, name in ((again, "again"), (never, "never")):
        wait_until((tmp_path / name / "held").exists, tmp_path / name)
        slurm("scontrol", "update", f"JobId={job.job_id}", "EndTime=now+70")
    wait_until(lambda: read_state(tmp_path / "again").state == "requeued", tmp_path / "again")
    slurm("scontrol", "update", f"JobId={again.job_id}", "TimeLimit=15")  # it was shortened with the end
    assert wait_for_end(again, tmp_path / "again") == "COMPLETED", logs_of(tmp_path / "again")
    state = read_state(tmp_path / "again")
    assert (state.state, state.starts, state.preemptions, state.timeouts_left) == ("finished", 2, 0, 0)
    assert_undisturbed(tmp_path / "again", tmp_path / "local", processes=1)
    assert wait_for_end(never, tmp_path / "never") == "FAILED"
    state = read_state(tmp_path / "never")
    assert (state.state, state.starts) == ("stopped", 1)
    assert "reached its time limit" in state.reason and "submit it again" in state.fix
    assert (tmp_path / "never" / "model_0000002.pth").is_file()


def test_a_job_that_lost_its_node_goes_on_from_its_checkpoint(tmp_path):
    folder = tmp_path / "job"
    job = submit(folder, HOLD.format(2))
    wait_until((folder / "held").exists, folder)
    node = slurm("squeue", "-h", "-j", job.job_id, "-o", "%N").strip()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    # SLURM refuses it for a node that has come back by itself
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], timeout=30)
    assert wait_for_end(job, folder) == "COMPLETED", logs_of(folder)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    first, second = (start["start_iteration"] for start in starts)
    assert first == 0 and second in (2, 3)  # killed at once, or with the time to save
    assert read_state(folder).starts == 2


def test_a_fault_for_the_person_to_mend_ends_the_job_for_good(tmp_path):
    folder = tmp_path / "job"
    job = submit(folder, "train.init_checkpoint=/nowhere/weights.pth")
    assert wait_for_end(job, folder) == "FAILED"
    state = read_state(folder)
    assert (state.state, state.starts, state.exit_code) == ("failed", 1, 2)
    assert "/nowhere/weights.pth" in state.reason and state.fix
    assert any(line.startswith("error: ") for line in state.log_tail)


def test_a_killed_process_ends_the_whole_job_at_once(tmp_path):
    folder = tmp_path / "job"
    job = submit(folder, HOLD.format(2), nodes=2)
    wait_until((folder / "held").exists, folder)
    os.kill(training_processes(folder)[1], signal.SIGKILL)
    start = time.monotonic()
    assert wait_for_end(job, folder) == "FAILED"
    assert time.monotonic() - start < 60  # the others would be held for minutes
    state = read_state(folder)
    assert (state.state, state.rank, state.exit_code) == ("failed", 1, -signal.SIGKILL)
    assert "killed by SIGKILL" in state.reason and state.log.endswith("_1_log.out")
    assert not training_processes(folder)


def test_a_killed_task_ends_the_whole_job_and_leaves_no_process(tmp_path):
    folder = tmp_path / "job"
    job = submit(folder, HOLD.format(2), nodes=2)
    wait_until((folder / "held").exists, folder)
    trainer = training_processes(folder)[1]
    task = int(slurm("ps", "-o", "ppid=", "-p", str(trainer)))
    os.kill(task, signal.SIGKILL)
    assert wait_for_end(job, folder) == "FAILED"
    wait_until(lambda: not training_processes(folder), folder, seconds=60)


def test_a_cancelled_job_saves_and_is_not_started_again(tmp_path):
    folder = tmp_path / "job"
    job = submit(folder, HOLD.format(2))
    wait_until((folder / "held").exists, folder)
    job.cancel()
    assert wait_for_end(job, folder) == "CANCELLED"
    state = read_state(folder)
    assert (state.state, state.starts) == ("stopped", 1) and "cancelled" in state.reason
    assert (folder / "model_0000002.pth").is_file()


def test_a_tool_that_was_asked_to_leave_is_run_again_until_it_is_done(tmp_path):
    tool = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: exit(0))
if not pathlib.Path("begun").exists():
    pathlib.Path("begun").touch()
    time.sleep(100)
"""
    job = submit_job(CommandJob(str(tmp_path), str(tmp_path), ["python", "-c", tool], "tool_state.json"), tmp_path)
    wait_until((tmp_path / "begun").exists, tmp_path)
    slurm("scancel", "--signal=USR2", job.job_id)
    assert wait_for_end(job, tmp_path) == "COMPLETED", logs_of(tmp_path)
    state = read_state(tmp_path / "tool_state.json")
    assert (state.state, state.starts, state.preemptions) == ("finished", 2, 1)


def training_processes(folder):
    """Their ids, by rank; they share a machine."""
    answer = subprocess.run(["pgrep", "-f", f"training_process {folder} "], capture_output=True, text=True)
    ranks = {}
    for pid in answer.stdout.split():
        try:
            with open(f"/proc/{pid}/environ") as stream:
                environment = dict(line.split("=", 1) for line in stream.read().split("\0") if "=" in line)
        except OSError:
            continue
        if "SLURM_PROCID" in environment:
            ranks[int(environment["SLURM_PROCID"])] = int(pid)
    return ranks
