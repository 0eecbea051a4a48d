"""What is told of jobs, from the files that they leave."""

import dataclasses
import json
import os
import socket
import subprocess

import pytest

from tests.cluster.slurm_doubles import put_into_path
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.evaluator_job import submit_evaluators, watch_job
from xray_lazy.cluster.executors import make_executor, submit_functions
from xray_lazy.cluster.job_record import JobRecord, newest_jobs, read_records
from xray_lazy.cluster.job_state import JobState
from xray_lazy.cluster.slurm_commands import QueueState, check_request, explain_refusal, job_states
from xray_lazy.cluster.status import process_runs, read_status
from xray_lazy.cluster.tables import print_statuses
from xray_lazy.errors import RunFailure, UserError

DEAD_PROCESS = 2**22 + 1  # above the largest number that Linux gives


def record(folder, job_id=str(DEAD_PROCESS), **changes):
    """A local job that works in `folder`."""
    values = {
        "job_id": job_id,
        "kind": "training",
        "output_dir": str(folder),
        "logs": str(folder / "jobs"),
        "profile": dataclasses.asdict(Profile(executor="local")),
        "code": None,
        "working_dir": str(folder),
        "max_iter": 100,
        "host": socket.gethostname(),
        "submitted": "2026-01-01T00:00:00+00:00",
    }
    return JobRecord(**{**values, **changes})


def status_of(job):
    return read_status([job])[0]


def test_records_of_a_folder_are_kept_and_the_newest_of_each_kind_is_found(tmp_path):
    run = tmp_path / "array" / "lr=1"
    for job in (record(run, "1"), record(run, "2"), record(run, "3", kind="evaluator")):
        job.add()
    assert [job.job_id for job in read_records(run)] == ["1", "2", "3"]
    for folder in (run, tmp_path / "array", tmp_path):
        assert [job.job_id for job in newest_jobs([folder])] == ["2", "3"]


def test_a_folder_without_jobs_and_a_broken_record_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        newest_jobs([tmp_path / "typo"])
    with pytest.raises(UserError, match="no job was submitted to work in"):
        newest_jobs([tmp_path])
    (tmp_path / "job.json").write_text('{"jobs": [{"job_id": 1')
    with pytest.raises(UserError, match="is not a record of jobs"):
        newest_jobs([tmp_path])


def test_iterations_and_last_metrics_are_those_of_metrics_json(tmp_path):
    lines = [
        {"iteration": 9, "total_loss": 3.0, "eta_seconds": 500.0, "bbox/AP": 1.0, "bbox_EMA/AP": 2.0, "segm/AP": None},
        {"iteration": 19, "total_loss": 2.0, "eta_seconds": 400.0, "bbox/AP-gun": 7.0},
        {"iteration": 14, "segm/AP": 5.0},  # of an evaluator beside the training
    ]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)) + '\n{"iteration": 2')
    JobState(str(DEAD_PROCESS), "stopped", reason="it was cancelled").write(tmp_path / "job_state.json")
    status = status_of(record(tmp_path))
    assert (status.state, status.reason, status.iterations, status.eta_seconds) == (
        "stopped",
        "it was cancelled",
        20,
        None,
    )
    assert status.metrics == {"total_loss": 2.0, "bbox/AP": 1.0, "bbox_EMA/AP": 2.0, "segm/AP": 5.0}


def test_a_failure_is_told_with_its_reason_and_the_log_of_the_task_that_failed(tmp_path, capsys):
    JobState(
        str(DEAD_PROCESS),
        "failed",
        reason="bad [data]",
        fix="repair it",
        log=str(tmp_path / "log"),
        log_tail=["a", "b"],
    ).write(tmp_path / "job_state.json")
    status = status_of(record(tmp_path))
    assert (status.reason, status.fix, status.log_tail) == ("bad [data]", "repair it", ["a", "b"])
    print_statuses([status])
    shown = capsys.readouterr().out
    assert "failed: bad [data]" in shown and "fix: repair it" in shown and "    b\n" in shown


def test_of_tasks_that_died_without_a_word_the_log_of_the_first_one_is_shown(tmp_path):
    job = record(tmp_path)
    (tmp_path / "jobs").mkdir()
    job.log_of(0).write_text("step 1\nsrun: error: n1: task 1: Killed\nsrun: error: n1: task 0: Terminated\n")
    job.log_of(1).write_text("loading\r 10%\r 99%\nallocating\n")
    status = status_of(job)
    assert (status.state, status.log, status.log_tail) == ("failed", job.log_of(1), [" 99%", "allocating"])


def test_what_an_earlier_job_said_of_itself_is_not_taken_for_the_new_one(tmp_path):
    JobState("1", "finished").write(tmp_path / "job_state.json")
    assert status_of(record(tmp_path)).state == "failed"


def test_of_a_local_job_of_another_machine_only_what_it_said_itself_is_known(tmp_path):
    job = record(tmp_path, host="login2")
    assert (status_of(job).state, status_of(job).reason) == ("unknown", "its processes are those of login2")
    JobState(job.job_id, "finished").write(tmp_path / "job_state.json")
    assert status_of(job).state == "finished"


def test_a_strange_process_with_the_number_of_a_job_is_not_the_job(tmp_path):
    assert not process_runs(record(tmp_path, str(os.getpid())))
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not process_runs(record(tmp_path, str(ended.pid)))


def test_whether_a_job_goes_on_is_told_to_its_evaluator(tmp_path, monkeypatch):
    record(tmp_path).add()
    goes_on = watch_job(tmp_path, str(DEAD_PROCESS))
    assert goes_on() is False
    record(tmp_path, host="login2").add()
    assert watch_job(tmp_path, str(DEAD_PROCESS))() is None
    record(tmp_path, "12", profile=dataclasses.asdict(Profile(time="10"))).add()
    monkeypatch.setenv("PATH", "")
    assert watch_job(tmp_path, "12")() is None  # no SLURM on this machine
    with pytest.raises(UserError, match="no job 13 was submitted"):
        watch_job(tmp_path, "13")


@pytest.mark.parametrize(
    ("said", "message", "fix"),
    [
        (
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid ...",
            "SLURM refuses the job: invalid partition specified: nope",
            "--partition",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "SLURM refuses the job: Invalid account or account/partition combination specified",
            "--account",
        ),
        ("", "SLURM refuses the job: no reason given", "sinfo"),
    ],
)
def test_a_refusal_is_one_line_with_a_fix(said, message, fix):
    error = explain_refusal(said)
    assert error.message == message and fix in error.fix


def test_what_a_cluster_says_beside_its_answers_is_passed_over(tmp_path, monkeypatch):
    says = "echo 'Maintenance: on Monday'; "
    put_into_path(
        tmp_path / "bin",
        monkeypatch,
        sbatch="",
        squeue=says + "echo '12_0|RUNNING|None'",
        sacct=says + "echo '13|CANCELLED by 1000|0:0'",
        sinfo=says + "echo 'gpu|2|gpu:a100:4(S:0-1)|64+|1-00:00:00'",
    )
    assert job_states(["12_0", "13", "14"]) == {"12_0": QueueState("RUNNING"), "13": QueueState("CANCELLED")}
    check_request(Profile(partition="gpu", time="60", gpus_per_node=4))
    with pytest.raises(UserError, match="have 4"):
        check_request(Profile(partition="gpu", time="60", gpus_per_node=5))


def test_commands_without_a_cluster_are_told_before_a_submission(tmp_path, monkeypatch):
    put_into_path(tmp_path / "bin", monkeypatch, sbatch="", squeue="", sinfo="echo 'no controller' >&2; exit 1")
    with pytest.raises(UserError, match="SLURM doesn't answer: sinfo fails: no controller") as caught:
        check_request(Profile(partition="gpu", time="60"))
    assert type(caught.value) is UserError and "--executor local" in caught.value.fix


def test_an_answer_that_cannot_be_read_is_no_news_of_a_job(tmp_path, monkeypatch):
    put_into_path(tmp_path / "bin", monkeypatch, sbatch="", squeue="echo 'Segmentation violation'")
    record(tmp_path, "12", profile=dataclasses.asdict(Profile(time="10"))).add()
    with pytest.raises(RunFailure, match="squeue can't be read: Segmentation violation"):
        job_states(["12"])
    assert watch_job(tmp_path, "12")() is None


def test_a_submission_without_a_job_id_is_told_as_it_is(tmp_path, monkeypatch):
    put_into_path(tmp_path / "bin", monkeypatch, sbatch="echo Welcome", squeue="", srun="")
    executor = make_executor(Profile(time="10"), tmp_path / "jobs", "name", tmp_path / "start.sh")
    with pytest.raises(RunFailure, match=r"no job id: .*Welcome"):
        submit_functions(executor, [print])


def test_a_refused_evaluator_leaves_no_doubt_about_its_training(tmp_path, monkeypatch):
    refuse = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1"
    put_into_path(tmp_path / "bin", monkeypatch, sbatch=refuse, squeue="", srun="")
    training = record(tmp_path, "12", profile=dataclasses.asdict(Profile(time="10")), with_evaluator=True)
    with pytest.raises(UserError, match=r"submitted, as job 12; its evaluator is not: .*QOSMaxSubmit") as error:
        submit_evaluators([training])
    assert f"cancel {tmp_path}" in error.value.fix
