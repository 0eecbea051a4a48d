"""Schedules follow max_iter."""

import pytest

from xray_lazy.engine.schedules import warmup_constant, warmup_cosine, warmup_multi_step


def multipliers(schedule, max_iter):
    return [schedule(iteration / max_iter) for iteration in range(max_iter)]


@pytest.mark.parametrize("max_iter", [100, 5000])
def test_cosine_warms_up_then_falls_to_its_final_factor(max_iter):
    values = multipliers(warmup_cosine(max_iter, warmup_iters=20, warmup_factor=0.01, final_factor=0.1), max_iter)
    assert values[0] == pytest.approx(0.01) and max(values) > 0.9
    assert values.index(max(values)) in (19, 20, 21)
    assert values[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("max_iter", [9, 90, 2700])
def test_steps_are_fractions_of_the_run(max_iter):
    schedule = warmup_multi_step(max_iter, milestones=[7 / 9, 8 / 9], warmup_iters=0)
    values = multipliers(schedule, max_iter)
    assert values[0] == 1 and values.count(1) == pytest.approx(max_iter * 7 / 9)
    assert values[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("max_iter", [1, 2, 3, 10])
@pytest.mark.parametrize("make", [warmup_cosine, warmup_constant, lambda n: warmup_multi_step(n, [0.6, 0.9])])
def test_very_short_runs_have_a_schedule_too(make, max_iter):
    assert all(0 < value <= 1 for value in multipliers(make(max_iter), max_iter))


def test_a_long_warm_up_leaves_most_of_a_short_run_to_learning():
    values = multipliers(warmup_constant(max_iter=100, warmup_iters=1000), 100)
    assert values.count(1.0) >= 75
