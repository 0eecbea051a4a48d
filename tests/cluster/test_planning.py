"""What is checked before a job is submitted."""

import dataclasses

import pytest

from tests.cluster.real_jobs import CONFIG
from xray_lazy.cluster.planning import SubmitOptions, plan_jobs
from xray_lazy.cluster.profile import Profile
from xray_lazy.config import save_config
from xray_lazy.errors import UserError

LOCAL = Profile(executor="local")
pytestmark = pytest.mark.usefixtures("job_environment")


@pytest.fixture
def plan(tmp_path):
    def plan_in_folder(*overrides, profile=LOCAL, **options):
        request = SubmitOptions(CONFIG, [f"train.output_dir={tmp_path}/run", *overrides], **options)
        return plan_jobs(request, profile)

    return plan_in_folder


def test_each_job_of_an_array_has_its_config_and_folder(plan, tmp_path):
    jobs = plan("optimizer.lr=0.001,0.002", "train.eval_period='1 epoch'")
    assert [job.cfg.optimizer.lr for job in jobs] == [0.001, 0.002]
    assert [job.output_dir for job in jobs] == [tmp_path / "run" / "lr=0.001", tmp_path / "run" / "lr=0.002"]
    assert all(job.cfg.train.eval_period == 4 for job in jobs)
    assert not (tmp_path / "run").exists()


def test_a_fault_in_any_job_of_an_array_is_found_and_the_job_named(plan):
    missing = "dataloader.test.dataset.max_pictures=null,0"
    with pytest.raises(UserError, match=r"in the job max_pictures=0: dataloader.test.dataset"):
        plan(missing)
    with pytest.raises(UserError, match=r"in the job total_batch_size=3: .*evenly over 2 processes"):
        plan("dataloader.train.total_batch_size=2,3", profile=dataclasses.replace(LOCAL, tasks_per_node=2))


def test_a_device_that_the_job_does_not_have_is_a_fault(plan):
    with pytest.raises(UserError, match="the job has no GPUs"):
        plan("train.device=cuda")
    with pytest.raises(UserError, match="the job asks for GPUs"):
        plan("train.device=cpu", profile=dataclasses.replace(LOCAL, gpus_per_node=1))


def test_another_run_in_the_folder_is_refused_unless_told(plan, tmp_path):
    (job,) = plan()
    (tmp_path / "run").mkdir()
    save_config(job.cfg, tmp_path / "run" / "config.yaml")
    with pytest.raises(UserError, match="another config"):
        plan("train.max_iter=7")
    assert plan("train.max_iter=7", overwrite=True)


def test_beside_an_evaluator_training_does_not_evaluate(plan):
    (job,) = plan(with_evaluator=True)
    assert "evaluation" not in job.cfg.hooks and "~hooks.evaluation" in job.overrides
