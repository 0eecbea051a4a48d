"""What was trained on some sets, on each of several test sets."""

import json
import math

import pytest

from xray_lazy.sweeps.matrix import TRAINED_ON, draw_matrix, format_matrix, matrix_of
from xray_lazy.sweeps.sweep_file import parse_sweep
from xray_lazy.sweeps.sweep_results import figure_sections, format_results
from xray_lazy.sweeps.trials import Trial

SETS = [["xray_a_train"], ["xray_b_train"], ["xray_a_train", "xray_b_train"]]


def sweep_of(value="last", **parameters):
    document = {"method": "grid", "metric": {"name": "val/segm/AP", "goal": "maximize", "value": value}}
    return parse_sweep(document | {"parameters": {TRAINED_ON: {"values": SETS}, **parameters}}, "across")


def trial_of(folder, number, trained, lines):
    """Trained on sets; `lines` has AP on the test sets by iteration."""
    path = folder / str(number)
    path.mkdir()
    logged = [
        {"iteration": i, "segm/AP": sum(cells.values()) / len(cells), "a/segm/AP50": 1.0}
        | {f"{name}/segm/AP": value for name, value in cells.items()}
        for i, cells in lines.items()
    ]
    (path / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in logged))
    values = {line["iteration"]: line["segm/AP"] for line in logged}
    return Trial(number, "finished", {TRAINED_ON: trained}, path, value=values[max(values)], intermediate_values=values)


@pytest.fixture
def trials(tmp_path):
    """Of one training set two, with other seeds."""
    return [
        trial_of(tmp_path, 0, SETS[2], {9: {"a": 50.0, "b": 60.0, "c": 30.0}}),
        trial_of(tmp_path, 1, SETS[1], {9: {"a": 20.0, "b": 70.0, "c": 5.0}}),
        trial_of(tmp_path, 2, SETS[0], {4: {"a": 90.0, "b": 90.0, "c": 90.0}, 9: {"a": 40.0, "b": 10.0, "c": 20.0}}),
        trial_of(tmp_path, 3, SETS[0], {9: {"a": 60.0, "b": 30.0, "c": 40.0}}),
    ]


def test_cells_are_means_over_trials_and_the_last_columns_over_sets(trials):
    matrix = matrix_of(sweep_of(), trials)
    assert (matrix.metric, matrix.trained) == ("segm/AP", ("a", "b", "a+b"))
    assert matrix.tested == ("a", "b", "c", "mean", "mean of unseen")
    assert matrix.values[0] == pytest.approx((50, 20, 30, 100 / 3, 25))
    assert matrix.values[1] == pytest.approx((20, 70, 5, 95 / 3, 12.5))
    assert matrix.values[2] == pytest.approx((50, 60, 30, 140 / 3, 30))


def test_where_the_best_value_counts_its_iteration_is_shown(trials):
    assert matrix_of(sweep_of(value="best"), trials[2:3]).values[0][:3] == (90, 90, 90)


def test_the_console_and_the_page_have_it(trials):
    sweep = sweep_of()
    lines = [line.split() for line in format_results(sweep, trials).splitlines()]
    assert ["a+b", "50", "60", "30", "46.67", "30"] in lines
    section = figure_sections(sweep, trials)[0]
    assert section.title == "Across sets"
    assert list(section.figure.data[0].y) == ["a", "b", "a+b"]


def test_what_was_trained_on_all_has_no_unseen_set(tmp_path):
    matrix = matrix_of(sweep_of(), [trial_of(tmp_path, 0, SETS[2], {1: {"a": 1.0, "b": 3.0}})])
    assert matrix.values[0][:3] == (1, 3, 2) and math.isnan(matrix.values[0][3])
    assert format_matrix(matrix).split()[-1] == "-"
    assert draw_matrix(matrix).data[0].z[0][3] is None


def test_other_sweeps_have_none(trials, tmp_path):
    assert matrix_of(sweep_of(), []) is None
    (tmp_path / "one").mkdir()
    assert matrix_of(sweep_of(), [trial_of(tmp_path / "one", 0, SETS[0], {1: {"a": 1.0}})]) is None
    document = {"method": "grid", "metric": {"name": "segm/AP", "goal": "maximize"}}
    other = parse_sweep(document | {"parameters": {"train.seed": {"values": [1, 2]}}}, "seeds")
    assert matrix_of(other, trials) is None
