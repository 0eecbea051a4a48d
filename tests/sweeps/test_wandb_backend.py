"""Sweeps at W&B: what it is told, and the real agent and launcher against the stand-in of its service."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.sweeps.example_sweep import example_sweep
from xray_lazy.config import get_config, load_config
from xray_lazy.config.override_grammar import parse_override
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.failure import FAILURE_FILE, read_failure
from xray_lazy.sweeps.training_command import TrainingCommand
from xray_lazy.sweeps.wandb_agents import run_agents
from xray_lazy.sweeps.wandb_registration import registered_value, registration, trial_folder
from xray_lazy.sweeps.wandb_sweep import check_access

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAIT = 400  # seconds, of which most are for importing torch on a busy machine
COMMAND = TrainingCommand("configs/xray/mask_rcnn_r50.py", ["train.device=cpu"], None, 2)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), inner),
    max_leaves=6,
)


@given(plain)
def test_any_value_survives_the_agents_way_to_write_it(value):
    read = parse_override(f"a.b={registered_value('a.b', value)}").value
    assert read == value and type(read) is type(value)


def test_numbers_flags_and_names_are_registered_as_they_are():
    values = [1e-5, 8, True, None, [1, 2], "xray_smith_train"]
    assert [registered_value("a.b", value) for value in values] == values


def test_w_and_b_is_told_its_own_keys_the_logged_name_and_dotted_parameters(monkeypatch):
    monkeypatch.chdir(ROOT)
    changes = {
        "metric": {"name": "segm/AP", "goal": "maximize", "value": "best"},
        "parameters": {
            "optimizer": {"parameters": {"lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2}}},
            "train.freeze": {"values": [None, {"a": None}], "probabilities": [0.5, 0.5]},
            "train.seed": {"value": 3},
        },
        "early_terminate": {"type": "hyperband", "min_iter": 3},
        "optuna": {"seed": 1},
        "run_cap": 20,
        "project": "x",
    }
    told = registration(example_sweep(**changes), get_config("xray/mask_rcnn_r50.py"), COMMAND, Path("output/sweeps/s"))
    assert told == {
        "name": "example",
        "method": "bayes",
        "metric": {"name": "val/segm/AP", "goal": "maximize"},
        "parameters": {
            "optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2},
            "train.freeze": {"values": [None, "{a:null}"], "probabilities": [0.5, 0.5]},
            "train.seed": {"value": 3},
        },
        "early_terminate": {"type": "hyperband", "min_iter": 3},
        "run_cap": 20,
        "program": "tools/lazy_train.py",
        "command": [
            *("${env}", "${interpreter}", "tools/lazy_train.py"),
            *("--config-file", "configs/xray/mask_rcnn_r50.py", "--num-processes", "2", "--resume"),
            *("train.device=cpu", "writers.wandb.mode=online"),
            "train.output_dir=output/sweeps/s/trials/${oc.env:WANDB_RUN_ID}",
            "${args_no_hyphens}",
        ],
    }


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "nobody is logged in"),
        ({"WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}, "WANDB_MODE is offline"),
    ],
)
def test_without_access_the_error_names_the_embedded_backend(monkeypatch, tmp_path, variables, message):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as caught:
        check_access()
    assert "leave out --backend wandb" in caught.value.fix


# what the trials do instead of training
NOTE = "import os, sys; open(sys.argv[1], 'a').write(f'{os.environ[\"CUDA_VISIBLE_DEVICES\"]} {sys.argv[2]}\\n')"


def test_agents_share_out_trials_and_devices(wandb_service, tmp_path):
    command = ["${env}", "${interpreter}", "-c", NOTE, str(tmp_path / "notes.txt"), "${args_no_hyphens}"]
    document = {"method": "grid", "parameters": {"n": {"values": [1, 2, 3, 4]}}, "command": command}
    wandb_service.graphql({"query": "mutation UpsertSweep", "variables": {"config": yaml.safe_dump(document)}})
    places = [{"CUDA_VISIBLE_DEVICES": devices} for devices in ("0,1", "2,3")]
    (name,) = wandb_service.sweeps
    assert run_agents(f"tester/uncategorized/{name}", tmp_path, places, count=3) is None
    devices, values = zip(*map(str.split, (tmp_path / "notes.txt").read_text().splitlines()), strict=True)
    assert sorted(devices) == ["0,1", "0,1", "2,3"]
    assert sorted(values) == ["n=1", "n=2", "n=3"]


def test_a_trial_that_fails_before_it_has_read_its_config_tells_why(wandb_service, tmp_path):
    fail = "from xray_lazy.failure import Failure; Failure('no images', exit_code=2).tell(); exit(2)"
    document = {"method": "grid", "parameters": {"n": {"values": [1, 2]}}}
    document["command"] = ["${env}", "${interpreter}", "-c", fail, "${args_no_hyphens}"]
    wandb_service.graphql({"query": "mutation UpsertSweep", "variables": {"config": yaml.safe_dump(document)}})
    ((name, sweep),) = wandb_service.sweeps.items()
    run_agents(f"tester/uncategorized/{name}", tmp_path, [{}])
    files = [trial_folder(tmp_path, run) / FAILURE_FILE for run in sweep.run_ids]
    assert [read_failure(file).message for file in files] == ["no images", "no images"]


def test_an_agent_that_fails_is_an_error_with_its_last_words(wandb_service, tmp_path):
    with pytest.raises(RunFailure, match="agent 0 ended with an error:"):
        run_agents("tester/xray/nowhere", tmp_path, [{}])


GRID = {
    "method": "grid",
    "metric": {"name": "segm/AP", "goal": "maximize"},
    "parameters": {
        "train.max_iter": {"values": [2, 5000]},
        "optimizer": {"parameters": {"lr": {"value": 0.001}}},
        "optimizer.params.lr_factors": {"value": {"backbone": 0.5}},
        "hooks.early_stopping.patience": {"value": None},
        "train.amp.enabled": {"value": False},
        "train.freeze": {"value": []},
    },
}


LEAN = ["train.device=cpu", "train.seed=5", "~hooks.prediction_pictures", "~writers.tensorboard"]


@pytest.fixture
def start(environment, wandb_service, tmp_path):
    """Starts tools/sweep.py at the stand-in, on a config of tiny trainings with two processes each."""

    def start_tool(document: dict, *arguments: str) -> subprocess.Popen:
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(document))
        command = [sys.executable, "tools/sweep.py", str(tmp_path / "tiny.yaml"), "--backend", "wandb"]
        command += ["--config-file", "tests/engine/tiny.py", "--output-dir", str(tmp_path / "sweep")]
        tool = subprocess.Popen(
            [*command, "--num-processes", "2", *LEAN, *arguments],
            env={**environment, **wandb_service.environment(tmp_path)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(tool)
        return tool

    started = []
    yield start_tool
    for tool in started:
        if tool.poll() is None:
            tool.kill()
            tool.communicate()


def trained(folder: Path) -> list[int]:
    lines = (folder / "metrics.json").read_text().splitlines()
    return [json.loads(line)["iteration"] for line in lines]


def test_an_agent_starts_the_launcher_with_each_trials_overrides_and_w_and_b_can_stop_it(
    start, wandb_service, tmp_path
):
    tool = start(GRID, "writers.wandb.project=bags")
    sweep = wandb_service.wait_for(lambda: [*wandb_service.sweeps.values()][-1], WAIT)
    assert (sweep.entity, sweep.project, sweep.config["method"]) == ("tester", "bags", "grid")
    second = wandb_service.wait_for(lambda: sweep.run_ids[1], WAIT)
    wandb_service.wait_for(lambda: wandb_service.runs[second].rows, WAIT)
    wandb_service.stop_run(second)
    output, _ = tool.communicate(timeout=WAIT)
    assert tool.returncode == 0, output
    first = sweep.run_ids[0]
    assert len(sweep.run_ids) == len(wandb_service.runs) == 2  # the second process of each trial is silent
    for name, iterations in ((first, 2), (second, 5000)):
        run, folder = wandb_service.runs[name], tmp_path / "sweep" / "trials" / name
        assert (run.sweep, run.state, run.exit_code) == (sweep.name, "finished", 0)
        assert run.config["run"]["value"]["world_size"] == 2
        overrides = run.config["run"]["value"]["overrides"]
        assert {f"train.max_iter={iterations}", "optimizer.lr=0.001", "hooks.early_stopping.patience=None"} <= {
            *overrides
        }
        cfg = load_config(folder / "config.yaml")
        assert (cfg.train.max_iter, cfg.train.seed, cfg.optimizer.lr) == (iterations, 5, 0.001)
        assert cfg.train.amp.enabled is False and cfg.hooks.early_stopping.patience is None and cfg.train.freeze == []
        assert OmegaConf.to_container(cfg.optimizer.params.lr_factors) == {"backbone": 0.5}
        assert (folder / "log.txt.rank1").exists()
        assert run.summary["iteration"] == trained(folder)[-1]
    assert trained(tmp_path / "sweep" / "trials" / second)[-1] < 4999
    rows = list(csv.DictReader((tmp_path / "sweep" / "trials.csv").open()))
    assert [(Path(row["folder"]).name, row["state"]) for row in rows] == [(first, "finished"), (second, "pruned")]
    assert float(rows[0]["segm/AP"]) == wandb_service.runs[first].summary["val/segm/AP"]
    best = load_config(tmp_path / "sweep" / "best_config.yaml")
    assert (best.train.max_iter, best.train.output_dir) == (2, str(tmp_path / "sweep" / "best"))


def test_after_an_interrupt_trials_have_saved_and_the_same_command_joins_the_sweep(start, wandb_service, tmp_path):
    document = {
        "method": "random",
        "metric": {"name": "total_loss"},
        "parameters": {"optimizer.lr": {"min": 1e-4, "max": 1e-3}},
    }
    document["parameters"]["train.max_iter"] = {"value": 5000}
    tool = start(document, "--count", "2")
    (name,) = wandb_service.wait_for(lambda: [run for run in wandb_service.runs if wandb_service.runs[run].rows], WAIT)
    tool.send_signal(signal.SIGINT)
    output, _ = tool.communicate(timeout=WAIT)
    assert tool.returncode == 128 + signal.SIGINT, output
    folder = tmp_path / "sweep" / "trials" / name
    assert (folder / "last_checkpoint").is_file()
    assert wandb_service.runs[name].state == "finished"
    assert "1 trial: 1 pruned" in output
    path = re.search(r"--sweep-id (\S+)", output)[1]
    assert path == f"tester/xray-lazy/{next(iter(wandb_service.sweeps))}"
    document["parameters"]["train.max_iter"] = {"value": 1}
    other = start(document, "--count", "2", "--sweep-id", path, "--output-dir", str(tmp_path / "other"))
    wandb_service.sweeps[path.split("/")[-1]].config["parameters"]["train.max_iter"] = {"value": 1}
    output, _ = other.communicate(timeout=WAIT)
    assert other.returncode == 0, output
    assert len(wandb_service.sweeps) == 1 and len(wandb_service.runs) == 2
    assert "2 trials: " in output and "1 finished" in output


def test_a_sweep_of_other_parameters_is_not_joined(start, wandb_service):
    wandb_service.graphql(
        {
            "query": "mutation UpsertSweep",
            "variables": {"config": yaml.safe_dump({"method": "random", "parameters": {"a.b": {"value": 1}}})},
        }
    )
    tool = start(
        {**GRID, "parameters": {"optimizer.lr": {"value": 1.0}}}, "--sweep-id", next(iter(wandb_service.sweeps))
    )
    output, _ = tool.communicate(timeout=WAIT)
    assert tool.returncode == 2
    assert "differ in their parameters: a.b, optimizer.lr" in output
