"""The best weights by any metric: which are kept, what tells of them, and what a resumed run knows."""

import json
import math
import os

import pytest
import torch

from tests.engine.conftest import CONFIG
from tests.engine.small_training import KeepWeights, train_small
from xray_lazy.engine.hooks.best_checkpoint import BestCheckpoint
from xray_lazy.engine.hooks.ema import ExponentialMovingAverage
from xray_lazy.engine.hooks.evaluation import Evaluation
from xray_lazy.engine.hooks.periodic_checkpoint import PeriodicCheckpoint
from xray_lazy.engine.run import RunOptions, run
from xray_lazy.errors import UserError

AP = [1.0, 4.0, math.nan, 3.0, 4.0, 2.0]  # by iteration


def read(path):
    return torch.load(path, weights_only=True)


def record_of(folder, name="best.json"):
    return json.loads((folder / name).read_text())


def entries_of(folder):
    record = record_of(folder)
    return [record, *record["others"]]


def files_of(folder):
    return sorted(path.name for path in folder.glob("model_best*"))


def train(folder, *best, values=AP, **options):
    """With an evaluation after each step; returns the weights after each."""
    keep = KeepWeights()
    hooks = {f"best_{number}": hook for number, hook in enumerate(best)}
    hooks = {"keep": keep, "evaluation": Evaluation(period=1), **hooks, "checkpoint": PeriodicCheckpoint(period=2)}
    train_small(folder, hooks, len(values), values=values, **options)
    return keep.after


def assert_weights(path, expected):
    for name, value in read(path)["model"].items():
        assert torch.equal(value, expected[name]), name


def test_the_best_is_kept_with_a_link_to_the_evaluation_that_chose_it(output):
    folder, overrides = output
    run(RunOptions(CONFIG, [*overrides, "hooks.best_checkpoint.metric=bbox/AP", "train.max_iter=2"]))
    record = record_of(folder)
    assert record["metric"] == "bbox/AP" and record["mode"] == "max" and record["others"] == []
    assert record["file"] == "model_best.pth" and record["evaluation"] == "evaluation/tiny/iter_1"
    results = json.loads((folder / record["evaluation"] / "metrics.json").read_text())
    assert str(record["value"]) in json.dumps(results)
    content = read(folder / "model_best.pth")
    assert {name: content[name] for name in ("metric", "value", "iteration", "evaluation")}.items() <= record.items()


def test_the_first_of_equal_ones_is_the_best(tmp_path):
    after = train(tmp_path, BestCheckpoint("bbox/AP"))
    assert files_of(tmp_path) == ["model_best.pth"] and record_of(tmp_path)["iteration"] == 1
    assert_weights(tmp_path / "model_best.pth", after[1])


def test_the_best_three_are_kept_in_order(tmp_path):
    after = train(tmp_path, BestCheckpoint("bbox/AP", keep=3))
    entries = entries_of(tmp_path)
    assert [(entry["iteration"], entry["value"]) for entry in entries] == [(1, 4.0), (4, 4.0), (3, 3.0)]
    files = ["model_best.pth", "model_best_0000004.pth", "model_best_0000003.pth"]
    assert [entry["file"] for entry in entries] == files
    assert [entry["evaluation"] for entry in entries] == [f"evaluation/small/iter_{n}" for n in (1, 4, 3)]
    assert files_of(tmp_path) == sorted([*files, "model_best_0000001.pth"])
    for entry in entries:
        assert_weights(tmp_path / entry["file"], after[entry["iteration"]])


def test_the_least_is_the_best_where_less_is_better(tmp_path, caplog):
    train(tmp_path, BestCheckpoint("bbox/AP", mode="min", keep=2))
    assert "that is the worst bbox/AP; set hooks.best_checkpoint.mode=max" in caplog.text
    assert [entry["value"] for entry in entries_of(tmp_path)] == [1.0, 2.0]


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4, 5])
def test_a_resumed_run_keeps_what_an_undisturbed_one_keeps(tmp_path, stop_at):
    values = [1.0, 3.0, 2.0, 4.0, 2.5, 3.0]
    train(tmp_path / "whole", BestCheckpoint("bbox/AP", keep=2), values=values)
    broken = tmp_path / "broken"
    train(broken, BestCheckpoint("bbox/AP", keep=2), values=values, stop_at=stop_at)
    train(broken, BestCheckpoint("bbox/AP", keep=2), values=values, resume=stop_at > 1)
    assert record_of(broken) == record_of(tmp_path / "whole")
    assert files_of(broken) == files_of(tmp_path / "whole")


def test_what_a_lost_part_of_a_run_has_kept_is_replaced(tmp_path):
    lost, again = [2.0, 1.0, 3.0, 4.0], [2.0, 1.0, 1.5, 1.7]
    after = train(tmp_path, BestCheckpoint("bbox/AP", keep=2), values=lost, stop_at=3)
    assert record_of(tmp_path)["iteration"] == 2
    (tmp_path / "model_best_0000099.pth").touch()
    train(tmp_path, BestCheckpoint("bbox/AP", keep=2), values=again, resume=True)
    assert [entry["iteration"] for entry in entries_of(tmp_path)] == [0, 3]
    assert files_of(tmp_path) == ["model_best.pth", "model_best_0000000.pth", "model_best_0000003.pth"]
    assert_weights(tmp_path / "model_best.pth", after[0])


def test_a_file_that_a_lost_part_of_a_run_has_deleted_is_not_named(tmp_path):
    lost, again = [2.0, 1.0, 3.0, 4.0], [2.0, 1.0, 0.5, 4.0]
    train(tmp_path, BestCheckpoint("bbox/AP", keep=3), values=lost, stop_at=3)
    (tmp_path / "model_best_0000001.pth").unlink()
    train(tmp_path, BestCheckpoint("bbox/AP", keep=3), values=again, resume=True)
    assert [entry["iteration"] for entry in entries_of(tmp_path)] == [3, 0, 2]


def test_a_disk_without_links_has_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    after = train(tmp_path, BestCheckpoint("bbox/AP", keep=2))
    assert_weights(tmp_path / "model_best.pth", after[1])
    assert not list(tmp_path.glob(".*"))


def test_a_resumed_run_with_another_metric_compares_anew(tmp_path):
    train(tmp_path, BestCheckpoint("bbox/AP"), values=[4.0, 3.0], stop_at=None)
    train(tmp_path, BestCheckpoint("bbox/AP", mode="min"), values=[4.0, 3.0, 5.0], resume=True)
    assert record_of(tmp_path)["value"] == 4.0
    train(tmp_path, BestCheckpoint("total_loss", mode="min"), values=[4.0, 3.0, 5.0, 6.0], resume=True)
    record = record_of(tmp_path)
    assert (record["metric"], record["iteration"], record["evaluation"]) == ("total_loss", 3, None)


def test_a_resumed_run_with_another_file_name_compares_anew(tmp_path):
    train(tmp_path, BestCheckpoint("bbox/AP"), values=[4.0, 3.0], stop_at=None)
    after = train(tmp_path, BestCheckpoint("bbox/AP", file_name="model_best_box"), values=[4.0, 3.0, 2.0], resume=True)
    assert_weights(tmp_path / "model_best_box.pth", after[-1])
    assert record_of(tmp_path, "best_box.json")["iteration"] == 2
    assert record_of(tmp_path)["iteration"] == 0


def test_several_hooks_keep_the_best_by_several_metrics(tmp_path):
    after = train(
        tmp_path, BestCheckpoint("bbox/AP"), BestCheckpoint("total_loss", mode="min", file_name="model_best_loss")
    )
    assert record_of(tmp_path)["metric"] == "bbox/AP"
    record = record_of(tmp_path, "best_loss.json")
    assert record["metric"] == "total_loss" and record["file"] == "model_best_loss.pth"
    assert_weights(tmp_path / "model_best_loss.pth", after[record["iteration"]])


def test_by_the_metric_of_averaged_weights_these_are_kept(tmp_path):
    ema, best = ExponentialMovingAverage(0.5), BestCheckpoint("bbox_EMA/AP")
    train_small(tmp_path, {"ema": ema, "evaluation": Evaluation(1), "best": best}, 2, values=[1.0, 2.0])
    record = record_of(tmp_path)
    assert (record["metric"], record["evaluation"]) == ("bbox_EMA/AP", "evaluation/small/iter_1_EMA")
    assert_weights(tmp_path / "model_best.pth", ema.model.state_dict())


def test_between_evaluations_nothing_is_compared_and_nothing_is_missed(tmp_path, caplog):
    hooks = {"evaluation": Evaluation(period=2), "best": BestCheckpoint("bbox/AP")}
    train_small(tmp_path, hooks, 6, values=[0.0, 4.0, 9.0, 3.0, 9.0, 2.0])
    assert record_of(tmp_path)["iteration"] == 1
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_two_hooks_with_one_file_name_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"two hooks write model_best\.pth"):
        train(tmp_path, BestCheckpoint("bbox/AP"), BestCheckpoint("segm/AP"))


def test_a_metric_that_is_not_there_is_one_warning_that_names_near_ones(tmp_path, caplog):
    train(tmp_path, BestCheckpoint("box/AP"))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "there is no metric box/AP, but bbox/AP" in warnings[0]
    assert files_of(tmp_path) == []


def test_a_metric_without_a_number_is_one_warning_and_the_first_number_is_the_best(tmp_path, caplog):
    train(tmp_path, BestCheckpoint("bbox/AP"), values=[math.nan, math.nan, 3.0, math.nan])
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "bbox/AP has no number in this evaluation: no model_best.pth" in warnings[0]
    assert record_of(tmp_path)["value"] == 3.0


@pytest.mark.parametrize("arguments", [{"mode": "most"}, {"keep": 0}])
def test_wrong_arguments_are_errors(arguments):
    with pytest.raises(UserError, match="max or min, keep 1 or more"):
        BestCheckpoint("bbox/AP", **arguments)
