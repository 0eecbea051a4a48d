"""tools/find_learning_rate.py and tools/find_batch_size.py."""

import argparse
import csv
import math
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.quick_processes import run_tool
from xray_lazy.config import load_config
from xray_lazy.engine.searches.batch_size_search import largest_that_fits, train_briefly
from xray_lazy.engine.searches.learning_rate_search import RangeTest, run_range_test
from xray_lazy.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "tests" / "engine" / "tiny.py"


@pytest.fixture
def tiny_config(environment, monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_SET", environment["TINY_SET"])
    return load_config(CONFIG, [f"train.output_dir={tmp_path}"])


def run_search(environment, name, *arguments):
    return run_tool(ROOT / "tools" / name, "--config-file", CONFIG, *arguments, environment=environment)


def test_the_range_test_tries_growing_rates_and_leaves_the_runs_folder_alone(environment, tmp_path):
    overrides = (f"train.output_dir={tmp_path}/run", "train.device=cpu", "optimizer.params.lr_factors={backbone: 0.1}")
    answer = run_search(environment, "find_learning_rate.py", "--iterations", 6, "--highest", 0.1, *overrides)
    assert answer.returncode == 0, answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run_learning_rate"]
    folder = tmp_path / "run_learning_rate"
    rates = [float(row["learning_rate"]) for row in csv.DictReader((folder / "learning_rate.csv").open())]
    assert rates == pytest.approx([1e-6 * 10**n for n in range(6)])
    assert (folder / "learning_rate.png").read_bytes().startswith(b"\x89PNG")
    assert "no suggestion: 6 rates don't tell a fall from chance" in answer.stdout


def test_the_range_test_ends_where_the_loss_explodes(tiny_config):
    tiny_config.train.clip_gradients.enabled = False
    result = run_range_test(tiny_config, "cpu", lowest=1e-3, highest=1e8, iterations=12)
    assert 0 < len(result.rates) < 12


def test_rates_that_are_no_range_are_an_error(tiny_config):
    with pytest.raises(UserError, match="are no range"):
        run_range_test(tiny_config, "cpu", lowest=1.0, highest=0.1)


def test_the_range_test_needs_a_rate_to_tell_those_of_parts_by(tiny_config):
    tiny_config.optimizer.lr = 0.0
    with pytest.raises(UserError, match=r"optimizer\.lr is 0"):
        run_range_test(tiny_config, "cpu")


@pytest.mark.parametrize("output", ["taken", "taken/below"])
def test_a_folder_that_can_not_be_made_is_refused_before_the_search(tiny_config, tmp_path, output):
    (tmp_path / "taken").touch()
    given = argparse.Namespace(
        config_file=str(CONFIG), iterations=2, lowest=1e-6, highest=1.0, output=f"{tmp_path}/{output}"
    )
    main = runpy.run_path(str(ROOT / "tools" / "find_learning_rate.py"))["main"]
    with pytest.raises(UserError, match="taken"):
        main(given, ["train.device=cpu", "optimizer.lr=0"])  # which the search itself would refuse


def test_the_suggestion_is_a_tenth_of_the_rate_with_the_lowest_loss():
    result = RangeTest()
    for step in range(100):
        rate = 10 ** (-6 + 6 * step / 99)
        result.add(rate, 1.0 if rate < 1e-4 else (0.2 if rate < 1e-2 else 5.0))
    assert 5e-4 < result.suggestion < 2e-3
    assert result.exploded


def test_there_is_no_suggestion_where_the_loss_never_fell():
    result = RangeTest()
    for step in range(30):
        result.add(10.0**step, 1.0 + step)
    assert result.suggestion is None


def test_there_is_no_suggestion_of_a_few_rates():
    result = RangeTest()
    for step in range(19):
        result.add(10.0**step, 2.0 - step / 30)
    assert result.suggestion is None
    result.add(1e19, 1.0)
    assert result.suggestion == pytest.approx(1e18)


def test_the_running_mean_starts_at_the_first_loss():
    result = RangeTest()
    for _ in range(3):
        result.add(1.0, 2.0)
    assert result.smoothed == pytest.approx([2.0] * 3) and not result.exploded
    result.add(1.0, math.nan)
    assert result.exploded


@given(largest=st.integers(0, 700), limit=st.integers(1, 512))
def test_the_largest_number_that_fits_is_found_in_few_trials(largest, limit):
    tried = []

    def fits(number):
        tried.append(number)
        return number <= largest

    assert largest_that_fits(fits, limit) == min(largest, limit)
    assert all(1 <= number <= limit for number in tried)
    assert len(tried) == len(set(tried)) <= 2 * math.log2(limit) + 2


def test_a_batch_size_is_tried_by_real_steps_of_training(tiny_config):
    train_briefly(tiny_config, "cpu", batch_size=3, steps=2)
    assert tiny_config.dataloader.train.total_batch_size == 2


def test_the_batch_size_search_needs_a_gpu(environment):
    answer = run_search(environment, "find_batch_size.py", "train.device=cpu")
    assert answer.returncode == 2
    assert "needs a GPU" in answer.stderr and "fix:" in answer.stderr
