"""Jobs of tiny runs on the test cluster, and what SLURM says of them."""

import subprocess
import time

import submitit

from tests.conftest import ROOT
from xray_lazy.cluster.job import TrainingJob
from xray_lazy.cluster.job_state import read_state
from xray_lazy.config import apply_overrides, load_config, save_config

CONFIG = str(ROOT / "tests" / "engine" / "tiny.py")
HOLD = "+hooks.hold={{_target_: tests.cluster.hooks_for_jobs.HoldAt, iteration: {}}}"
# what these hooks import takes seconds
WITHOUT = ("evaluation", "best_checkpoint", "early_stopping", "evaluation_media", "prediction_pictures")
QUICK = ["train.device=cpu", "dataloader.train.total_batch_size=4", *(f"~hooks.{name}" for name in WITHOUT)]
TIMEOUT_SECONDS = 400  # on a busy machine a job takes a minute to start
ENDS = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")  # others come and go, as REQUEUED and SIGNALING do


def write_config(folder, *overrides):
    """The config of a run as submission leaves it in the output folder."""
    folder.mkdir()
    cfg = apply_overrides(load_config(CONFIG), [f"train.output_dir={folder}", *QUICK, *overrides])
    save_config(cfg, folder / "config.yaml")


def submit(folder, *overrides, nodes=1, tasks=1, signal_delay=90, **limits):
    """Submit the training of a tiny run in `folder`."""
    write_config(folder, *overrides)
    job = TrainingJob(str(folder), str(ROOT), list(overrides), signal_delay=signal_delay, **limits)
    return submit_job(job, folder, nodes, tasks, signal_delay)


def submit_job(job, folder, nodes=1, tasks=1, signal_delay=90):
    executor = submitit.SlurmExecutor(folder / "jobs")
    executor.update_parameters(
        nodes=nodes,
        ntasks_per_node=tasks,
        time=15,
        partition="main",
        signal_delay_s=signal_delay,
        stderr_to_stdout=True,
        srun_args=["--kill-on-bad-exit=1"],
        additional_parameters={"requeue": True},
    )
    return executor.submit(job)


def slurm(*command):
    """The output of one of SLURM's commands."""
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return answer.stdout


def state_of(job):
    """SLURM's own word, such as RUNNING."""
    facts = slurm("scontrol", "--oneliner", "show", "job", job.job_id).split()
    return next(fact.removeprefix("JobState=") for fact in facts if fact.startswith("JobState="))


def wait_until(condition, folder, seconds=TIMEOUT_SECONDS):
    """Wait for a condition; if it does not come, show the logs of the folder's jobs."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{read_state(folder)}\n{logs_of(folder)}")
        time.sleep(0.3)


def wait_for_end(job, folder):
    """Wait until SLURM is done with a job; returns how it ended."""
    wait_until(lambda: state_of(job) in ENDS, folder)
    return state_of(job)


def logs_of(folder):
    return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted((folder / "jobs").glob("*_log.out")))
