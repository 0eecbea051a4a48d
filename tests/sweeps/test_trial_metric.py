"""Which value of a trial counts, under whichever name the sweep gives."""

import json

import pytest

from xray_lazy.config import get_config
from xray_lazy.sweeps.sweep_file import Metric
from xray_lazy.sweeps.trial_metric import MetricSource

CONFIG = get_config("xray/mask_rcnn_r50.py", ["train.tracking.names=mmdetection"])  # val/segm_mAP is 0.01 * segm/AP


def write(folder, *lines):
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def end(metric, folder):
    source = MetricSource(metric, CONFIG)
    return source.value_at_end(source.read(folder))


@pytest.fixture
def folder(tmp_path):
    values = {9: 10.0, 19: 40.0, 29: 30.0}
    return write(tmp_path, *({"iteration": i, "segm/AP": v, "total_loss": 1.0} for i, v in values.items()))


@pytest.mark.parametrize(("which", "value"), [("last", 30.0), ("best", 40.0), ("final", 30.0)])
def test_the_last_best_or_final_value_counts(folder, which, value):
    assert end(Metric("segm/AP", "maximize", value=which), folder) == (value, "")


def test_a_metric_may_be_named_as_it_is_logged_and_then_has_the_logged_scale(folder):
    source = MetricSource(Metric("val/segm_mAP", "maximize"), CONFIG)
    assert source.read(folder).by_iteration == {9: 0.1, 19: 0.4, 29: pytest.approx(0.3)}


def test_values_that_are_not_finite_are_passed_over(tmp_path):
    write(tmp_path, {"iteration": 1, "segm/AP": 5.0}, {"iteration": 2, "segm/AP": None}, {"iteration": 3, "lr": 1.0})
    assert end(Metric("segm/AP"), tmp_path) == (5.0, "")
    value, reason = end(Metric("segm/AP", value="final"), tmp_path)
    assert value is None and "final iteration 3" in reason


def test_a_metric_that_was_never_logged_is_answered_with_near_ones(folder):
    value, reason = end(Metric("segm/APP"), folder)
    assert value is None and "no segm/APP; did you mean segm/AP?" in reason


def test_a_run_without_metrics_has_no_values(tmp_path):
    source = MetricSource(Metric("segm/AP"), CONFIG)
    assert source.read(tmp_path).finite == {} and source.read(tmp_path).last_iteration is None
