"""What is checked before a job is submitted."""

import contextlib
import dataclasses
import re
import subprocess
import sys

import pytest

from tests.cluster.real_jobs import CONFIG, write_config
from tests.cluster.test_status import record
from tests.engine.test_preflight import write_half_of_weights
from xray_lazy.cluster.cancelling import cancel
from xray_lazy.cluster.cluster_profile import Profile
from xray_lazy.cluster.planning import SubmitOptions, plan_jobs
from xray_lazy.cluster.resubmission import resubmit
from xray_lazy.config import load_config, save_config
from xray_lazy.engine.run import RunOptions, run
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
    with pytest.raises(UserError, match=r"in the job metric=bbox-PA: hooks.best_checkpoint.metric: no evaluation"):
        plan("hooks.best_checkpoint.metric=bbox/AP,bbox/PA")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hooks.ema.decay=1", "hooks.ema.decay is 1"),
        ("hooks.early_stopping.patience=0", "a patience of 0"),
        ("hooks.best_checkpoint.mode=up", "mode 'up'"),
        ("optimizer.lr=-0.01", "optimizer.lr: -0.01"),
        ("train.freeze=['*']", "no parameter of"),
        ("train.clip_gradients.max_norm=-1", "max_norm: -1"),
        ("train.amp.dtype=int8", "int8"),
        ("writers.json.window_size=0", "window_size: 0"),
    ],
)
def test_what_the_start_would_refuse_is_refused_before_the_job_waits(plan, override, words):
    with pytest.raises(UserError, match=re.escape(words)):
        plan(override)


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


@contextlib.contextmanager
def local_job(folder, kind):
    """A job at work in `folder`, as far as can be seen from outside."""
    sleep = [sys.executable, "-c", "import time; time.sleep(600)", "submitit.local._local", str(folder / "jobs")]
    process = subprocess.Popen(sleep)
    try:
        record(folder, str(process.pid), kind=kind).add()
        yield
    finally:
        process.kill()
        process.wait()


def test_a_folder_that_a_training_works_on_is_refused_also_when_its_evaluator_has_ended(plan, tmp_path):
    folder = tmp_path / "run"
    with local_job(folder, "training"):
        record(folder, kind="evaluator").add()
        with pytest.raises(UserError, match=f"works on {folder}: it is running"):
            plan(overwrite=True)
    assert plan()


def test_a_training_that_goes_on_gets_an_evaluator_again_also_where_the_last_one_is_still_at_work(tmp_path):
    folder = tmp_path / "run"
    write_config(folder)
    record(folder, with_evaluator=True).add()
    with local_job(folder, "evaluator"):
        again = resubmit([folder], {})
        cancel(again)
    assert [job.kind for job in again] == ["training", "evaluator"]


def test_beside_an_evaluator_training_does_not_evaluate(plan):
    (job,) = plan(with_evaluator=True)
    assert "evaluation" not in job.cfg.hooks and "~hooks.evaluation" in job.overrides


def test_weights_that_load_in_part_are_told_once_of_an_array_before_its_jobs_wait(plan, tmp_path, caplog):
    weights = write_half_of_weights(load_config(CONFIG), tmp_path)
    plan(f"train.init_checkpoint={weights}", "optimizer.lr=0.001,0.002")
    assert caplog.text.count("left as initialised: roi_heads") == 1


def test_a_config_that_does_not_fit_the_checkpoint_is_refused_before_the_job_takes_it(plan, tmp_path):
    folder = tmp_path / "run"
    run(RunOptions(CONFIG, [f"train.output_dir={folder}", "train.device=cpu", "train.max_iter=1", "~hooks.evaluation"]))
    before = (folder / "config.yaml").read_bytes()
    assert plan("optimizer.lr=0.5", resume=True, overwrite=True)
    with pytest.raises(UserError, match="does not fit the model"):
        plan("model.roi_heads.mask_head.conv_dims=[16,24]", resume=True, overwrite=True)
    assert (folder / "config.yaml").read_bytes() == before
