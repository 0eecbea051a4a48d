"""Sweep files: what is read from them, and what is said of those that are wrong."""

from pathlib import Path

import pytest

from xray_lazy.errors import UserError
from xray_lazy.sweeps.sweep_file import EarlyTerminate, Metric, parse_sweep, read_sweep

METRIC = {"name": "segm/AP", "goal": "maximize"}
PARAMETERS = {"optimizer.lr": {"min": 0.0, "max": 0.1}}
SWEEPS = Path(__file__).parents[2] / "configs" / "sweeps"


def sweep(**changes):
    return parse_sweep({"method": "bayes", "metric": METRIC, "parameters": PARAMETERS} | changes, "test")


def faults(**changes):
    with pytest.raises(UserError) as error:
        sweep(**changes)
    return str(error.value)


def test_a_file_in_wandb_s_format_is_read(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(
        """
program: tools/lazy_train.py
command: ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
method: random
metric: {name: total_loss, target: 0.5}
run_cap: 12
project: bags
early_terminate: {type: hyperband, min_iter: 3}
parameters:
  optimizer.lr: {min: 0, max: 1e-3}
  train.max_iter: {value: 300}
  dataloader:
    parameters:
      train: {parameters: {total_batch_size: {values: [2, 4]}}}
"""
    )
    read = read_sweep(path)
    assert (read.name, read.method, read.run_cap, read.project) == ("search", "random", 12, "bags")
    assert read.metric == Metric("total_loss", "minimize", 0.5, "last")
    assert read.early_terminate.bands[:3] == (3, 9, 27)
    assert list(read.parameters) == ["optimizer.lr", "train.max_iter", "dataloader.train.total_batch_size"]
    assert list(read.varied) == ["optimizer.lr", "dataloader.train.total_batch_size"]


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_ready_sweeps_are_read_and_have_the_name_of_their_file(path):
    assert read_sweep(path).name == path.stem


def test_the_ready_mask_rcnn_sweep_searches_what_was_asked_for():
    read = read_sweep(SWEEPS / "mask_rcnn_bayes.yaml")
    assert read.method == "bayes" and (read.metric.name, read.metric.goal) == ("total_loss", "minimize")
    assert read.parameters["optimizer.lr"].bounds == (0.0, 0.001)
    listed = {key: parameter.values for key, parameter in read.parameters.items() if parameter.values}
    assert listed == {
        "dataloader.train.total_batch_size": (2, 4, 8),
        "train.max_iter": (300, 1000, 1500, 5000),
        "model.roi_heads.batch_size_per_image": (32, 64, 128, 256),
    }


def test_keys_of_ours_are_left_out_of_what_wandb_is_given():
    document = sweep(optuna={"sampler": "gp", "seed": 3}, metric={**METRIC, "value": "best"}).wandb_document()
    assert document == {"method": "bayes", "metric": METRIC, "parameters": PARAMETERS}


def test_all_faults_are_reported_together():
    text = faults(
        method="bayesian",
        metric={"nmae": "segm/AP", "goal": "max"},
        run_cap=0,
        parametres={},
        parameters={"lr": {"distribution": "loguniform", "min": 1, "max": 2}, "b": {"values": []}, "c": 3},
    )
    for words in ("9 faults", "bayesian", "did you mean name?", "maximize", "run_cap", "did you mean parameters?"):
        assert words in text
    for words in ("did you mean log_uniform,", "parameters.b: values is []", "parameters.c: 3 is no parameter"):
        assert words in text


@pytest.mark.parametrize(
    ("group", "bands"),
    [
        ({"min_iter": 2, "eta": 2, "max_iter": 10}, (2, 4, 8)),
        ({"max_iter": 27, "s": 2}, (3, 9)),
        ({"max_iter": 27, "s": 9}, (1, 3, 9)),
    ],
)
def test_hyperband_s_bands_are_wandb_s(group, bands):
    read = sweep(early_terminate={"type": "hyperband", "strict": True, **group}).early_terminate
    assert read == EarlyTerminate(bands, group.get("eta", 3), strict=True)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({}, "give min_iter, or max_iter together with s"),
        ({"max_iter": 9}, "give min_iter"),
        ({"min_iter": 2, "eta": 1}, "early_terminate.eta"),
        ({"min_iter": "2"}, "early_terminate.min_iter"),
        ({"min_iter": 4, "type": "median"}, "it may be hyperband"),
        ({"max_iter": 2, "s": 1, "eta": 5}, "no iteration at which"),
        ({"min_iter": 2, "max_iter": 9, "s": 1}, "it plays no part beside max_iter and s"),
    ],
)
def test_hyperband_that_stops_nothing_is_a_fault(group, words):
    assert words in faults(early_terminate={"type": "hyperband", **group})


def test_another_program_and_a_command_with_dashes_are_explained():
    assert "each trial is a run of tools/lazy_train.py" in faults(program="train.py")
    assert "leave it out" in faults(command=["python", "${program}", "${args}"])


def test_without_a_metric_there_is_nothing_to_compare():
    assert "what makes a trial better" in faults(metric={})


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"name": "segm/AP", "goal": "minimize"}, "looks for the worst segm/AP"),
        ({"name": "val/bbox/AP-gun"}, "without a word it is minimize"),
        ({"name": "val_loss/total_loss", "goal": "maximize"}, "write goal: minimize"),
    ],
)
def test_the_worst_model_is_not_looked_for(metric, words):
    assert words in faults(metric=metric)


def test_a_grid_has_no_sampler():
    grid = {"method": "grid", "parameters": {"optimizer.lr": {"values": [0.1, 0.2]}}}
    assert "a grid has no sampler" in faults(**grid, optuna={"sampler": "tpe"})


def test_a_missing_file_is_answered_with_near_ones(tmp_path):
    with pytest.raises(UserError, match=r"mask_rcnn_bayes\.yaml"):
        read_sweep(SWEEPS / "mask_rcnn_bayse.yaml")
    with pytest.raises(UserError, match=r"sparse_rcnn_bayes\.yaml"):
        read_sweep(tmp_path / "sparse_rcnn_bayes.yaml")


@pytest.mark.parametrize("name", ["trials", "trials.csv", "results.html", "best_config.yaml"])
def test_what_somebody_else_has_where_a_sweep_would_put_its_own_is_not_replaced(tmp_path, name):
    from omegaconf import OmegaConf

    from xray_lazy.sweeps.sweep_folder import open_sweep_folder

    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"holds {name}, and no sweep"):
        open_sweep_folder(tmp_path, None, OmegaConf.create({"train": {"output_dir": "x", "max_iter": 4}}))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_folder_of_a_run_is_not_taken_for_a_sweep(tmp_path):
    from omegaconf import OmegaConf

    from xray_lazy.sweeps.sweep_folder import open_sweep_folder

    (tmp_path / "config.yaml").write_text("train: {output_dir: elsewhere, max_iter: 3}\n")
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="and no sweep"):
        open_sweep_folder(tmp_path, None, OmegaConf.create({"train": {"output_dir": "x", "max_iter": 4}}))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]
