"""The figures of a sweep: what stands where, and what is left out."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sweeps.example_sweep import example_sweep, example_trials
from xray_lazy.sweeps import sweep_plots as plots
from xray_lazy.sweeps.axes import axes_of, short_names
from xray_lazy.sweeps.trials import best_trial

SWEEP = example_sweep()


@pytest.fixture
def trials(tmp_path):
    return example_trials(SWEEP, tmp_path)


@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join), min_size=1))
def test_each_short_name_is_the_end_of_its_key_and_of_no_other_where_there_is_such_a_one(keys):
    names = short_names(keys)
    assert len(set(names.values())) == len(keys)
    for key, name in names.items():
        assert f".{key}".endswith(f".{name}")
        assert name == key or not any(f".{other}".endswith(f".{name}") for other in keys - {key})


def test_short_names_that_are_ambiguous_get_longer():
    names = short_names(["optimizer.lr", "hooks.ema.decay", "optimizer.params.layer_decay", "schedule.ema.decay"])
    assert list(names.values()) == ["lr", "hooks.ema.decay", "layer_decay", "schedule.ema.decay"]


def test_parameters_that_spread_over_magnitudes_have_a_logarithmic_axis_over_the_whole_search(trials):
    axis = axes_of(SWEEP.varied, trials)[0]
    assert (axis.name, axis.span) == ("lr", pytest.approx((-5, -2)))
    assert axis.ticks()["ticktext"] == ["1e-05", "0.0001", "0.001", "0.01"]
    assert axis.place(0.001) == pytest.approx(-3)


def test_listed_values_stand_in_their_order_at_equal_distances(trials):
    batch, freeze = (axes_of(SWEEP.varied, trials)[n] for n in (1, 3))
    assert [batch.place(value) for value in (2, 4, 8)] == [0, 1, 2]
    assert freeze.ticks() == {"tickvals": [0, 1], "ticktext": ["null", '["backbone"]']}


def test_an_axis_without_bounds_spans_the_values_and_a_logarithmic_one_with_a_zero_is_linear(tmp_path):
    changes = {"parameters": {"a.b": {"distribution": "normal"}, "c.d": _quantized_log()}}
    sweep = example_sweep(**changes)
    trial = example_trials(SWEEP, tmp_path, 2)[0]
    settings = [{"a.b": -1.5, "c.d": 0}, {"a.b": 2.0, "c.d": 50}]
    normal, quantized = axes_of(sweep.varied, [dataclasses.replace(trial, parameters=s) for s in settings])
    assert normal.span == (-1.5, 2.0)
    assert not quantized.is_log and quantized.span == (0, 100)


def _quantized_log() -> dict:
    return {"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 10}


@settings(deadline=None, max_examples=30)  # the first example imports plotly
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.sampled_from(["minimize", "maximize"]))
def test_the_history_has_the_best_so_far(values, goal):
    metric = dataclasses.replace(SWEEP.metric, goal=goal)
    trial = example_trials(SWEEP, Path(), 2)[0]
    trials = [dataclasses.replace(trial, number=number, value=value) for number, value in enumerate(values)]
    line, dots = plots.draw_history(metric, trials).data
    choose = max if goal == "maximize" else min
    assert list(dots.y) == values
    assert list(line.y) == [choose(values[: n + 1]) for n in range(len(values))] + [choose(values)]


def test_the_history_shows_pruned_trials_by_their_last_value_and_no_failed_ones(trials):
    _, finished, pruned = plots.draw_history(SWEEP.metric, trials).data
    assert list(pruned.x) == [4, 9, 14]
    assert list(pruned.y) == [trials[n].intermediate_values[299] for n in (4, 9, 14)]
    assert not {7, 19} & {*finished.x, *pruned.x}


def test_parallel_coordinates_have_an_axis_for_each_parameter_that_varies_and_the_metric(trials):
    (lines,) = plots.draw_parallel_coordinates(SWEEP, trials).data
    names = [dimension.label for dimension in lines.dimensions]
    assert names == ["lr", "total_batch_size", "max_norm", "freeze", "segm/AP"]
    finished = [trial for trial in trials if trial.state == "finished"]
    assert lines.dimensions[0]["values"] == pytest.approx([math.log10(t.parameters["optimizer.lr"]) for t in finished])
    assert list(lines.dimensions[-1]["values"]) == [trial.value for trial in finished]


def test_slices_are_a_panel_for_each_parameter_and_mark_the_best_trial(trials):
    figure = plots.draw_slices(SWEEP, trials)
    best = best_trial(SWEEP.metric, trials)
    assert len(figure.data) == 4
    for panel in figure.data:
        assert [value for value, color in zip(panel.y, panel.marker.color, strict=True) if color == plots.BEST] == [
            best.value
        ]


def test_the_parameter_that_decides_has_the_greatest_importance(trials):
    (bars,) = plots.draw_importances(SWEEP, trials).data
    assert bars.y[-1] == "lr" and bars.x[-1] > 0.5
    assert sum(bars.x) == pytest.approx(1)


def test_importances_need_trials_that_differ(trials):
    assert plots.can_tell_importances(SWEEP, trials)
    assert not plots.can_tell_importances(SWEEP, trials[:7])
    equal = [dataclasses.replace(trial, value=1.0) if trial.value else trial for trial in trials]
    assert not plots.can_tell_importances(SWEEP, equal)


def test_learning_curves_leave_out_trials_without_any_and_draw_the_best_one_last(trials):
    figure = plots.draw_learning_curves(SWEEP.metric, trials)
    best = best_trial(SWEEP.metric, trials)
    assert len(figure.data) == len(trials) - 1
    assert figure.data[-1].name == f"{best.number} finished"
    assert list(figure.data[-1].x) == [100 * n for n in range(1, 10)]


def test_a_loss_that_explodes_in_one_trial_leaves_the_others_readable(trials):
    loss = dataclasses.replace(SWEEP.metric, goal="minimize")
    steady, exploded = (
        dataclasses.replace(trials[0], intermediate_values=dict(enumerate(v))) for v in ([2, 1], [9, 90])
    )
    assert plots.draw_learning_curves(loss, [steady, exploded]).layout.yaxis.type == "log"
    assert plots.draw_learning_curves(loss, [steady]).layout.yaxis.type == "linear"
    assert plots.draw_learning_curves(SWEEP.metric, [steady, exploded]).layout.yaxis.type == "linear"
