"""A sweep's own run at W&B, read back from what was recorded offline."""

import json

import pytest
from omegaconf import OmegaConf

from tests.sweeps.example_sweep import example_sweep, example_trials
from tests.tracking import offline_run_file as recorded
from xray_lazy.sweeps.trials import best_trial
from xray_lazy.sweeps.wandb_summary import log_summary

SWEEP = example_sweep()


@pytest.fixture
def cfg():
    return OmegaConf.create({"train": {"seed": 1}, "writers": {"wandb": {"project": "bags", "mode": "offline"}}})


def test_it_has_the_table_the_plots_and_the_best_values(cfg, tmp_path):
    trials = example_trials(SWEEP, tmp_path)
    log_summary(tmp_path / "lr", SWEEP, trials, cfg)
    records = recorded.read_finished(tmp_path / "lr")
    run = recorded.run(records)
    assert (run.project, run.display_name, run.run_group, run.job_type) == ("bags", "lr", "lr", "sweep")
    assert recorded.config(records)["sweep"]["method"] == "bayes"
    (row,) = recorded.history(records)
    kinds = {name.removesuffix("/_type"): kind for name, kind in row.items() if name.endswith("/_type")}
    plots = ["history", "parallel_coordinates", "slices", "importances", "learning_curves"]
    assert kinds == {"sweep/trials": "table-file", **{f"sweep/{name}": "plotly-file" for name in plots}}
    (table,) = (tmp_path / "lr").rglob("*.table.json")
    table = json.loads(table.read_text())
    assert table["columns"][:3] == ["trial", "state", "segm/AP"]
    assert [(line[0], line[2]) for line in table["data"]] == [(trial.number, trial.value) for trial in trials]
    summary = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in _summary(records)}
    best = best_trial(SWEEP.metric, trials)
    assert (summary["best/trial"], summary["best/segm/AP"]) == (best.number, best.value)
    assert summary["best/optimizer.lr"] == best.parameters["optimizer.lr"]


def test_a_sweep_that_goes_on_stays_the_same_run(cfg, tmp_path):
    for name in ("first", "second"):
        log_summary(tmp_path, SWEEP, example_trials(SWEEP, tmp_path, 3), cfg)
        (recording,) = (path for path in (tmp_path / "wandb").glob("offline-run-*") if path.name != "latest-run")
        recording.rename(tmp_path / name)
    first, second = (recorded.run(recorded.read_finished(tmp_path / name)).run_id for name in ("first", "second"))
    assert first == second == json.loads((tmp_path / "run.json").read_text())["wandb_id"]


@pytest.mark.parametrize("writers", [{}, {"wandb": {"project": "bags", "mode": "disabled"}}])
def test_without_w_and_b_nothing_is_written(cfg, tmp_path, writers):
    cfg.writers = writers
    log_summary(tmp_path / "lr", SWEEP, example_trials(SWEEP, tmp_path), cfg)
    assert not (tmp_path / "lr").exists()


def _summary(records):
    kept = (record.summary for record in records if record.WhichOneof("record_type") == "summary")
    return [item for summary in kept for item in summary.update]
