"""How many processes a run gets, where they meet, and what is left of their group at the end."""

import json
import os
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
    plan, other = plan_launch("auto", num_gpus=4), plan_launch("auto", num_gpus=4)
    assert plan.world_size == 4 and plan.dist_url.startswith("tcp://127.0.0.1:")
    assert plan.dist_url != other.dist_url


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
