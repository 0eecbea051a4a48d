"""How many processes a run gets, where they meet, and what is left of their group at the end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.engine.conftest import CONFIG
from tests.engine.quick_processes import run_group
from xray_lazy.engine import launch
from xray_lazy.engine.launch import plan_launch
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)

    def set_number(number):
        monkeypatch.setattr(launch, "count_gpus", lambda: number)

    return set_number


def test_the_default_is_one_gpu_where_there_is_one_and_else_the_cpu(gpus):
    gpus(4)
    assert (plan_launch("auto").device, plan_launch("auto").world_size) == ("cuda", 1)
    gpus(0)
    assert (plan_launch("auto").device, plan_launch("auto").world_size) == ("cpu", 1)


def test_several_gpus_meet_at_a_free_local_port(gpus):
    gpus(4)
    plans = [plan_launch("auto", num_gpus=4) for _ in range(5)]
    assert all(plan.world_size == 4 and plan.dist_url.startswith("tcp://127.0.0.1:") for plan in plans)
    assert len({plan.dist_url for plan in plans}) > 1  # a system may give a free port out twice in a row


def test_processes_on_the_cpu_do_not_take_the_gpus_of_the_machine(gpus):
    gpus(4)
    assert plan_launch("auto", num_processes=2).device == "cpu"


@pytest.mark.parametrize(
    ("there", "arguments", "words"),
    [
        (2, {"device": "auto", "num_gpus": 4}, "4 GPUs asked for, but this machine has 2"),
        (0, {"device": "cuda"}, "this machine has none"),
        (2, {"device": "cpu", "num_gpus": 2}, "train.device is cpu"),
        (2, {"device": "cuda", "num_processes": 2}, "train.device is cuda"),
        (2, {"device": "auto", "num_gpus": 1, "num_processes": 1}, "exclude each other"),
        (2, {"device": "auto", "num_gpus": 2, "num_machines": 2}, "--dist-url"),
    ],
)
def test_what_does_not_fit_is_an_error(gpus, there, arguments, words):
    gpus(there)
    with pytest.raises(UserError) as error:
        plan_launch(**arguments)
    assert words in str(error.value)


def train_and_list_threads(folder):
    run(RunOptions(CONFIG, [f"train.output_dir={folder}/run", "train.device=cpu", "train.max_iter=2"]))
    tasks = Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    (folder / f"threads_{os.environ['RANK']}.json").write_text(json.dumps(names))


def test_no_thread_of_the_group_outlives_the_training(tmp_path):
    run_group(train_and_list_threads, tmp_path, processes=2, log=tmp_path / "log.txt")
    for rank in range(2):
        names = json.loads((tmp_path / f"threads_{rank}.json").read_text())
        assert names and not [name for name in names if "gloo" in name or "store" in name]


def test_a_process_of_torchrun_joins_its_group(gpus, monkeypatch):
    gpus(0)
    for name, value in {"RUN_ID": "x"}.items():
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    for name, value in {"WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "RANK": "4"}.items():
        monkeypatch.setenv(name, value)
    plan = plan_launch("cpu")
    assert (plan.world_size, plan.processes, plan.machines, plan.group_rank) == (6, 3, 2, 4)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[1-2]", "n1"), ("n[07,10-12],m1", "n07"), ("a1,b2", "a1"), ("r[3-4]n[08-09]", "r3n08")],
)
def test_the_first_of_slurms_nodes(nodes, first):
    assert launch._first_host(nodes) == first


def test_what_is_typed_into_the_shell_of_a_job_is_no_task_of_it(monkeypatch):
    step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "localhost"}
    step |= {"SLURM_PROCID": "0", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_TASK_PID": str(os.getpid())}
    for name, value in {**step, "SLURM_PTY_PORT": "40000"}.items():
        monkeypatch.setenv(name, value)
    assert plan_launch("cpu").world_size == 4  # srun --pty python tools/lazy_train.py
    monkeypatch.setenv("SLURM_TASK_PID", str(os.getppid()))
    assert plan_launch("cpu").world_size == 1  # srun --pty bash


def stand_ready(folder):
    (Path(folder) / str(os.getpid())).touch()
    signal.pause()


def test_ctrl_c_before_training_has_begun_is_no_success_of_several_processes(tmp_path):
    code = f"""
        import os, signal, threading, time
        from pathlib import Path
        from tests.engine.test_launch import stand_ready
        from xray_lazy.command_line import run_tool
        from xray_lazy.engine.launch import plan_launch, run_processes

        def interrupt():
            while len(list(Path({str(tmp_path)!r}).iterdir())) < 2:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=interrupt, daemon=True).start()
            run_tool(lambda: run_processes(plan_launch("cpu", num_processes=2), stand_ready, {str(tmp_path)!r}))
    """
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (130, "error: interrupted\n")
