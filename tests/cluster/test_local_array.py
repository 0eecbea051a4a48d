"""An array on this machine: jobs that wait for the command that submitted them, without starting any."""

import dataclasses
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from tests.cluster.test_status import DEAD_PROCESS
from xray_lazy.cluster import resubmission, submission
from xray_lazy.cluster.cancelling import cancel, overwritten_runs
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.job_record import newest_jobs, read_records
from xray_lazy.cluster.planning import PlannedJob, SubmitOptions
from xray_lazy.cluster.status import read_status
from xray_lazy.config import save_config

LOCAL = Profile(executor="local")


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """Submits jobs of these names, of which the first runs until `meanwhile` has been called; returns the started."""

    def submit(names, meanwhile, **options):
        running = [True]

        def sleep(seconds):
            running.clear()
            meanwhile()

        monkeypatch.setattr(submission, "time", SimpleNamespace(sleep=sleep))
        monkeypatch.setattr(submission, "process_runs", lambda record: bool(running))
        jobs = [
            PlannedJob(name, OmegaConf.create({"train": {"max_iter": 9, "output_dir": str(tmp_path / name)}}), [])
            for name in names
        ]
        return submission.submit_jobs(jobs, SubmitOptions("c.py", [], **options), LOCAL)

    def hand_over(executor, functions):
        started.append(DEAD_PROCESS + len(started))
        return [SimpleNamespace(job_id=str(started[-1]))]

    started = []
    monkeypatch.setattr(submission, "take_snapshot", lambda folder: None)
    monkeypatch.setattr(submission, "submit_functions", hand_over)
    return submit


def states(folder):
    return {status.record.output_dir.rpartition("/")[2]: status for status in read_status(newest_jobs([folder]))}


def test_one_that_waits_is_shown_and_can_be_cancelled(tmp_path, submit):
    def meanwhile():
        seen.update({name: status.state for name, status in states(tmp_path).items()})
        cancelled.extend(cancel(newest_jobs([tmp_path / "b"])))

    seen, cancelled = {}, []
    started = submit(["a", "b", "c"], meanwhile)
    assert seen == {"a": "failed", "b": "waiting", "c": "waiting"}  # the double of a's process is dead
    assert [record.output_dir for record in cancelled] == [str(tmp_path / "b")]
    assert [record.output_dir for record in started] == [str(tmp_path / "a"), str(tmp_path / "c")]
    assert not any(record.waits_for for record in started)
    left = states(tmp_path)["b"]
    assert (left.state, left.reason) == ("stopped", "it was cancelled before it started")


def test_the_run_that_a_cancelled_job_was_to_overwrite_is_named(tmp_path, submit):
    def meanwhile():
        aside.extend(overwritten_runs(cancel(newest_jobs([tmp_path / "b"]))))

    for name in "ab":
        save_config(OmegaConf.create({"train": {"max_iter": 1}}), tmp_path / name / "config.yaml")
        (tmp_path / name / "metrics.json").write_text("of an earlier run")
    aside: list = []
    submit(["a", "b"], meanwhile, overwrite=True)
    assert [(folder / "metrics.json").read_text() for folder in aside] == ["of an earlier run"]
    assert aside[0].parent == tmp_path / "b"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_submission_leaves_the_folders_to_their_jobs(tmp_path, submit, monkeypatch, capsys, overwrite):
    def interrupt():
        (tmp_path / "a" / "metrics.json").write_text("of the job that runs")
        raise KeyboardInterrupt

    if overwrite:
        for name in "ab":
            save_config(OmegaConf.create({"train": {"max_iter": 1}}), tmp_path / name / "config.yaml")
            (tmp_path / name / "metrics.json").write_text("of an earlier run")
    with pytest.raises(KeyboardInterrupt):
        submit(["a", "b"], interrupt, overwrite=overwrite, with_evaluator=True)
    assert f"left: what has started goes on ({DEAD_PROCESS})" in capsys.readouterr().err
    assert (tmp_path / "a" / "metrics.json").read_text() == "of the job that runs"
    for name in "ab":
        assert "max_iter: 9" in (tmp_path / name / "config.yaml").read_text()
    (waiting,) = read_records(tmp_path / "b")
    dataclasses.replace(waiting, job_id=f"{DEAD_PROCESS}_1").add()  # this process lives
    left = states(tmp_path)["b"]
    assert (left.state, left.reason) == ("stopped", "the command that was to start it has ended")

    monkeypatch.setattr(resubmission, "prepare_job", lambda *arguments: None)
    again = resubmission.resubmit([tmp_path / "b"], {})
    assert [(job.kind, job.output_dir) for job in again] == [
        (k, str(tmp_path / "b")) for k in ("training", "evaluator")
    ]
    assert not any(job.waits_for for job in again)


def test_a_folder_is_as_it_was_where_nothing_could_be_submitted(tmp_path, submit, monkeypatch):
    def refuse(executor, functions):
        raise OSError("no more processes")

    monkeypatch.setattr(submission, "submit_functions", refuse)
    with pytest.raises(OSError, match="no more processes"):
        submit(["a", "b"], lambda: None)
    assert not any((tmp_path / name / file).exists() for name in "ab" for file in ("config.yaml", "job.json"))


def test_a_training_that_fails_in_this_process_keeps_its_config(tmp_path, submit, monkeypatch):
    def fail():
        raise ZeroDivisionError

    jobs = [PlannedJob("", OmegaConf.create({"train": {"max_iter": 9, "output_dir": str(tmp_path / "run")}}), [])]
    monkeypatch.setattr(submission, "submit_functions", lambda *_: [SimpleNamespace(job_id="1", results=fail)])
    with pytest.raises(ZeroDivisionError):
        submission.submit_jobs(jobs, SubmitOptions("c.py"), Profile(executor="debug"))
    assert (tmp_path / "run" / "config.yaml").is_file()
