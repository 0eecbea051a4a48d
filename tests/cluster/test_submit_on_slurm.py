"""tools/submit.py and sweeps on a real SLURM: arrays, following, cancelling, refusals, trials as jobs."""

import json
import signal
import subprocess
import sys

import pytest

from tests.cluster.real_jobs import CONFIG, HOLD, QUICK, slurm, wait_until
from tests.cluster.submit_tool import command, run_tool, submit
from tests.conftest import ROOT
from xray_lazy.cluster.job_record import read_records
from xray_lazy.cluster.slurm_commands import job_states
from xray_lazy.config import load_config

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("job_environment")]
ON_SLURM = ["--executor", "slurm", "--partition", "main", "--cpus-per-task", 1, "--time", 15]


def test_an_array_of_four_runs_two_at_once(tmp_path):
    array = tmp_path / "array"
    sweep = ["optimizer.lr=0.001,0.002", "train.seed=range(2)", "train.max_iter=1", "--max-parallel", 2]
    submit(array, *ON_SLURM, *sweep)
    folders = [array / f"lr={lr}_seed={seed}" for lr in ("0.001", "0.002") for seed in (0, 1)]
    records = [read_records(folder)[0] for folder in folders]
    number = records[0].job_id.split("_")[0]
    assert [record.job_id for record in records] == [f"{number}_{element}" for element in range(4)]
    wait_until(lambda: "waiting: JobArrayTaskLimit" in run_tool("status", array), array)
    run_tool("wait", array)
    assert run_tool("status", array).count("finished") == 4
    for folder, lr in zip(folders, (0.001, 0.001, 0.002, 0.002), strict=True):
        assert (folder / "model_final.pth").is_file() and load_config(folder / "config.yaml").optimizer.lr == lr


def test_a_job_that_waits_and_one_that_runs_are_cancelled(tmp_path):
    array = tmp_path / "array"
    submit(array, *ON_SLURM, "train.seed=1,2", "--max-parallel", 1, HOLD.format(0))
    wait_until((array / "seed=1" / "held").exists, array)
    shown = run_tool("cancel", array)
    first, second = (read_records(array / f"seed={seed}")[0].job_id for seed in (1, 2))
    assert f"cancelled: {first}, {second}" in shown
    wait_until(lambda: run_tool("status", array).count("cancelled") == 2, array)
    assert "no job waits or runs" in run_tool("cancel", array)
    assert (array / "seed=1" / "last_checkpoint").is_file() and not (array / "seed=2" / "log.txt").exists()


def test_following_a_job_may_be_left_and_ends_with_the_job(tmp_path):
    folder = tmp_path / "run"
    submit(folder, *ON_SLURM, HOLD.format(1))
    wait_until((folder / "held").exists, folder)
    (job,) = read_records(folder)
    following = follow(folder, until="[1/2]")
    following.send_signal(signal.SIGINT)
    _, errors = following.communicate(timeout=300)
    assert following.returncode == 130 and f"the jobs go on ({job.job_id})" in errors
    assert job_states([job.job_id])[job.job_id].state == "RUNNING"
    following = follow(folder, until="[1/2]")
    run_tool("cancel", folder)
    rest, errors = following.communicate(timeout=300)
    assert following.returncode == 1 and f"job {job.job_id} cancelled" in errors
    assert "saved" in rest


def follow(folder, until):
    """Start to follow a job, and go on when this has been shown."""
    following = subprocess.Popen(command("follow", folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    shown = iter(following.stdout.readline, "")
    assert any(until in line for line in shown)
    return following


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--partition", "mian"], "the cluster has no partition mian\n  fix: did you mean main?"),
        (
            ["--gpus-per-node", 5, "train.device=auto"],
            "5 GPUs of a node asked for, but nodes of the partition main have 4",
        ),
        (["--nodes", 3], "3 nodes asked for, but the partition main has 2"),
        (["--cpus-per-task", 99], "99 cores of a node asked for"),
        (["--sbatch", "reservation=none"], "SLURM refuses the job: Requested reservation is invalid"),
    ],
)
def test_what_the_cluster_does_not_have_is_one_message(tmp_path, words, message):
    assert message in submit(tmp_path / "run", *ON_SLURM, *words, code=2)
    assert not read_records(tmp_path / "run")


def test_a_training_and_its_evaluator_are_two_jobs(tmp_path):
    folder = tmp_path / "run"
    words = ["--config-file", CONFIG, "train.device=cpu", "~hooks.prediction_pictures", f"train.output_dir={folder}"]
    run_tool(*words, *ON_SLURM, "--with-evaluator", "--wait")
    training, evaluator = read_records(folder)
    assert (training.kind, evaluator.kind) == ("training", "evaluator")
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "segm/AP" in line] == [1, 3]
    assert run_tool("status", folder).count("finished") == 2


def test_an_evaluator_job_ends_its_training_early(tmp_path):
    folder = tmp_path / "run"
    words = ["--config-file", CONFIG, "train.device=cpu", "~hooks.prediction_pictures", f"train.output_dir={folder}"]
    words += ["train.max_iter=100000", "train.checkpointer.period=50", "train.log_period=50"]
    words += ["hooks.early_stopping.patience=1", "hooks.early_stopping.min_delta=1000"]
    run_tool(*words, *ON_SLURM, "--with-evaluator", "--wait")
    assert run_tool("status", folder).count("finished") == 2
    assert (folder / "model_final.pth").is_file()
    assert "stopped after iteration" in (folder / "log.txt").read_text()
    iterations = [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]
    assert max(iterations) < 99_999


def test_a_sweep_of_four_trials_runs_as_jobs(tmp_path):
    sweep = {
        "method": "grid",
        "metric": {"name": "total_loss", "goal": "minimize"},
        "parameters": {"optimizer.lr": {"values": [1e-4, 1e-3, 2e-3, 3e-3]}},
    }
    (tmp_path / "grid.yaml").write_text(json.dumps(sweep))
    folder = tmp_path / "sweep"
    words = [str(tmp_path / "grid.yaml"), "--config-file", CONFIG, *QUICK, "train.max_iter=2", "--output-dir", folder]
    words += [*ON_SLURM, "--trials-in-parallel", 2]
    tool = [sys.executable, str(ROOT / "tools" / "sweep.py"), *map(str, words)]
    answer = subprocess.run(tool, capture_output=True, text=True, timeout=900)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    jobs = [read_records(folder / "trials" / f"{trial:04d}")[0].job_id for trial in range(4)]
    accounted = slurm("sacct", "-X", "-n", "-P", "-o", "JobName,State", "-j", ",".join(jobs)).split()
    assert accounted == [f"sweep-{trial:04d}|COMPLETED" for trial in range(4)]
    assert run_tool("status", folder).count("finished") == 4
