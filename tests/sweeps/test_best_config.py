"""The best trial's config as a file that trains it again."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.engine.quick_processes import run_tool
from tests.sweeps.example_sweep import example_sweep, example_trials
from xray_lazy.config import diff_configs, load_config
from xray_lazy.sweeps.sweep_results import write_results

ROOT = Path(__file__).parents[2]
OVERRIDES = {"optimizer.lr": 0.0123, "dataloader.train.total_batch_size": 4, "train.seed": 3}


def train(environment, *arguments):
    answer = run_tool(ROOT / "tools" / "lazy_train.py", *arguments, environment=environment)
    assert answer.returncode == 0, answer.stderr


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines]


@pytest.fixture(scope="module")
def sweep_folder(environment, tmp_path_factory):
    """A sweep whose best trial was really trained."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = [f"{key}={value}" for key, value in OVERRIDES.items()]
    place = f"train.output_dir={folder}/trials/0001"
    train(
        environment,
        "--config-file",
        ROOT / "tests/engine/tiny.py",
        "--num-processes",
        1,
        "train.device=cpu",
        *settings,
        place,
    )
    sweep = example_sweep(parameters={key: {"values": [value, 7]} for key, value in OVERRIDES.items()})
    trial = dataclasses.replace(example_trials(example_sweep(), folder / "trials", 3)[1], parameters=OVERRIDES)
    written = write_results(folder, sweep, [trial])
    assert folder / "best_config.yaml" in written
    return folder


def test_it_is_the_trials_config_with_another_output_folder(sweep_folder, environment, monkeypatch):
    monkeypatch.setenv("TINY_SET", environment["TINY_SET"])
    trial, best = (load_config(sweep_folder / name) for name in ("trials/0001/config.yaml", "best_config.yaml"))
    assert (best.optimizer.lr, best.dataloader.train.total_batch_size, best.train.seed) == (0.0123, 4, 3)
    assert best.train.output_dir == str(sweep_folder / "best")
    best.train.output_dir = trial.train.output_dir
    assert diff_configs(trial, best) == []


def test_it_begins_with_what_it_is(sweep_folder):
    lines = (sweep_folder / "best_config.yaml").read_text().splitlines()
    assert lines[0].startswith("# The best trial of the sweep example: trial 1, segm/AP ")
    assert lines[1:4] == ["# optimizer.lr=0.0123", "# dataloader.train.total_batch_size=4", "# train.seed=3"]
    assert (
        lines[4]
        == f"# Train it: python tools/lazy_train.py --config-file {sweep_folder}/best_config.yaml --num-processes 1"
    )


def test_the_training_tool_takes_it_and_repeats_the_trial(sweep_folder, environment):
    before = {path: path.stat().st_mtime_ns for path in (sweep_folder / "trials").rglob("*")}
    train(environment, "--config-file", sweep_folder / "best_config.yaml")
    assert losses(sweep_folder / "best") == losses(sweep_folder / "trials/0001")
    assert before == {path: path.stat().st_mtime_ns for path in (sweep_folder / "trials").rglob("*")}


def test_a_trial_whose_folder_is_on_another_machine_gives_no_config(tmp_path):
    sweep = example_sweep()
    written = write_results(tmp_path, sweep, example_trials(sweep, tmp_path / "elsewhere"))
    assert [path.name for path in written] == ["trials.csv", "results.html"]
