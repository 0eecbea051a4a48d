"""Thresholds of classes together: never above the budget, never behind one threshold, and honest on fresh bags."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_lazy.evaluation.screening.bags import NEVER, BagScores
from xray_lazy.evaluation.screening.threshold_choice import choose_thresholds, common_threshold, judge, judge_across

SCORES = st.sampled_from([NEVER, 0.1, 0.3, 0.5, 0.7, 0.9])


def scores(clean, threats):
    """Bags of scores by class; a threat is of its classes whose score is not None, and hit by them."""
    rows = [*clean, *threats]
    shows = np.array([[False] * len(row) for row in clean] + [[one is not None for one in row] for row in threats])
    alarm = np.array([[NEVER if one is None else one for one in row] for row in rows], float)
    hit = np.where(shows, alarm, NEVER)
    return BagScores(list(range(len(rows))), shows, alarm, hit, hit.max(axis=1))


def drawn(random, clean, threats, shifts=(1.0, 1.5, 2.0, 2.5), missed=0.1):
    """Bags whose true rates are known by drawing many: classes differ in how sure and how noisy they are."""
    bags, classes = clean + threats, len(shifts)
    noise = random.normal(size=(bags, classes)) * np.linspace(0.5, 1.5, classes) + np.linspace(-1, 1, classes)
    noise[random.random((bags, classes)) > 0.3] = NEVER
    item, is_threat = random.integers(classes, size=bags), np.arange(bags) >= clean
    shows = is_threat[:, None] & (item[:, None] == np.arange(classes))
    found = shows & (random.random(bags) > missed)[:, None]
    hit = np.where(found, random.normal(size=bags)[:, None] + np.array(shifts), NEVER)
    return BagScores(list(range(bags)), shows, np.maximum(noise, hit), hit, hit.max(axis=1))


@pytest.mark.fast
def test_each_class_has_the_threshold_that_its_false_alarms_ask_for():
    # the first class is noisy above 0.6, the second never: one threshold would lose the second's low scores
    clean = [[0.9, None], [0.6, None], [None, None], [None, None]]
    threats = [[0.95, None], [None, 0.2], [None, 0.3], [0.5, None]]
    bags = scores(clean, threats)
    assert choose_thresholds(bags, 0).tolist() == [0.95, 0.2]
    assert judge(bags, choose_thresholds(bags, 0)).detection.value == 0.75
    assert judge(bags, [common_threshold(bags, 0)] * 2).detection.value == 0.25
    # two false alarms let the last one through
    assert choose_thresholds(bags, 0.5).tolist() == [0.5, 0.2]
    assert choose_thresholds(bags, 0.49).tolist() == [0.95, 0.2]


@pytest.mark.fast
def test_a_bag_that_alarms_already_costs_nothing_more():
    # both classes are noisy in the same clean bag
    bags = scores([[0.8, 0.8], [None, None]], [[0.7, None], [None, 0.7]])
    assert choose_thresholds(bags, 0.5).tolist() == [0.7, 0.7]
    # in two bags only one of them may be lowered, and the one that detects more is
    bags = scores([[0.8, None], [None, 0.8]], [[0.7, None], [None, 0.7], [None, 0.75]])
    assert choose_thresholds(bags, 0.5).tolist() == [np.inf, 0.7]


@pytest.mark.fast
def test_further_items_of_detected_bags_are_taken_where_they_cost_nothing():
    # the gun is found in both bags; of the knives one lies above the silent clean bag's score
    bags = scores([[None, 0.3], [None, None]], [[0.9, 0.4], [0.8, 0.2]])
    assert choose_thresholds(bags, 0).tolist() == [0.8, 0.4]


@pytest.mark.fast
def test_a_class_that_no_bag_shows_has_the_common_threshold():
    bags = scores([[0.4, 0.6], [None, None]], [[0.5, None], [0.7, None]])
    assert common_threshold(bags, 0) == 0.7
    assert choose_thresholds(bags, 0).tolist() == [0.5, 0.7]


ROWS = st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=6)


@given(ROWS, ROWS, st.floats(0, 1))
def test_the_budget_is_kept_and_one_threshold_is_never_better(clean, threats, budget):
    threats = [[one if one != NEVER else None for one in row] for row in threats]
    threats = [row if any(one is not None for one in row) else [0.1, None] for row in threats]
    bags = scores([list(row) for row in clean], threats)
    found = choose_thresholds(bags, budget)
    assert judge(bags, found).false_alarms.value <= budget + 1e-9
    alike = judge(bags, [common_threshold(bags, budget)] * 2)
    assert judge(bags, found).detection.value >= alike.detection.value
    assert found.tolist() == choose_thresholds(bags, budget).tolist()


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_it_comes_near_the_best_of_all_thresholds(seed):
    bags = drawn(np.random.default_rng(seed), clean=20, threats=12, shifts=(1, 2))
    candidates = [np.append(np.inf, np.unique(column[np.isfinite(column)])) for column in bags.hit.T]
    judged = [judge(bags, pair) for pair in itertools.product(*candidates)]
    best = max(one.detection.value for one in judged if one.false_alarms.value <= 0.1)
    assert judge(bags, choose_thresholds(bags, 0.1)).detection.value >= best - 1 / 12 - 1e-9


@pytest.mark.fast
def test_too_few_bags_are_not_judged_across():
    assert judge_across(drawn(np.random.default_rng(0), clean=4, threats=20), 0.1) is None


def test_fresh_bags_alarm_about_as_often_as_asked_and_are_detected_more_often_than_by_one_threshold():
    random = np.random.default_rng(1)
    fresh = drawn(random, clean=20_000, threats=20_000)
    bags = drawn(random, clean=2000, threats=1000)
    chosen = choose_thresholds(bags, 0.05)
    found, alike = judge(fresh, chosen), judge(fresh, [common_threshold(bags, 0.05)] * 4)
    assert judge(bags, chosen).false_alarms.value <= 0.05
    assert 0.035 < found.false_alarms.value < 0.075
    assert found.detection.value > alike.detection.value + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("clean", "threats"), [(300, 150), (2000, 1000)])
def test_judged_across_folds_it_is_as_good_as_on_fresh_bags(clean, threats):
    random = np.random.default_rng(0)
    fresh = drawn(random, clean=50_000, threats=50_000)
    rows = []
    for _ in range(60):
        bags = drawn(random, clean, threats)
        chosen, across = judge(fresh, choose_thresholds(bags, 0.05)), judge_across(bags, 0.05)
        alike = judge(fresh, [common_threshold(bags, 0.05)] * 4)
        judged = (across, chosen, alike)
        rows.append([rate.value for one in judged for rate in (one.false_alarms, one.detection)])
    across_false, across_found, true_false, true_found, _, alike_found = np.mean(rows, axis=0)
    assert across_false == pytest.approx(true_false, abs=0.005)
    # each fold has fewer bags to choose by
    assert true_found - 0.04 < across_found < true_found + 0.01
    assert 0.05 <= true_false < 0.08 and true_found > alike_found


@pytest.mark.slow
def test_classes_that_are_alike_lose_nothing_by_thresholds_of_their_own():
    random = np.random.default_rng(0)

    def alike(clean, threats):
        bags = drawn(random, clean, threats, shifts=(2, 2, 2))
        noise = np.where(random.random(bags.alarm.shape) < 0.3, random.normal(size=bags.alarm.shape), NEVER)
        return BagScores(bags.bags, bags.shows, np.maximum(noise, bags.hit), bags.hit, bags.hit_of_any)

    fresh, gains = alike(50_000, 50_000), []
    for _ in range(40):
        bags = alike(2000, 1000)
        chosen = judge(fresh, choose_thresholds(bags, 0.05))
        gains.append(chosen.detection.value - judge(fresh, [common_threshold(bags, 0.05)] * 3).detection.value)
    assert np.mean(gains) > -0.005
