"""P_D at P_FA: equal to hand-made cases and to the rank statistic, with intervals that hold what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from xray_lazy.evaluation.screening.bags import NEVER
from xray_lazy.evaluation.screening.curve import ROUNDING, Curve, draw_figures
from xray_lazy.evaluation.screening.figures import screen

# few values, so that scores are often equal
SCORES = st.sampled_from([NEVER, 0.1, 0.2, 0.3, 0.5, 0.9])


def curve(clean, threats):
    """Threats are (alarm, hit) or one score for both."""
    pairs = [pair if isinstance(pair, tuple) else (pair, pair) for pair in threats]
    alarm = np.array([*clean, *(alarm for alarm, _ in pairs)], float)
    hit = np.array([*[NEVER] * len(clean), *(hit for _, hit in pairs)], float)
    return Curve.of(np.arange(len(alarm)) >= len(clean), alarm, hit)


def test_the_threshold_is_the_lowest_that_keeps_the_false_alarms():
    found = curve([0.9, 0.5, 0.2, NEVER], [0.95, (0.8, 0.6), 0.5, (0.7, NEVER)])
    assert (found.clean, found.threats) == (4, 4)
    assert found.detection_at(0) == 0.25
    assert found.detection_at(0.25) == 0.5 and found.thresholds[found.place_at(0.25)] == 0.6
    assert found.detection_at(0.49) == 0.5
    assert found.detection_at(0.5) == 0.75
    assert found.alarms[found.place_at(0.25)] == 0.75  # one of them by a detection beside the threat
    assert found.false_alarms_at(0.5) == 0.25
    assert found.false_alarms_at(0.75) == 0.5
    assert np.isnan(found.false_alarms_at(0.76))


@pytest.mark.parametrize(("percent", "count", "bags"), [(2.8, 7, 250), (0.7, 7, 1000), (56.7, 567, 1000)])
def test_a_percentage_is_the_share_of_bags_that_it_means(percent, count, bags):
    scores = np.linspace(0.9, 0.1, bags)
    by_clean = curve(scores, [0.95])
    assert by_clean.false_alarms[by_clean.place_at(percent / 100)] == count / bags
    # one of two clean bags alarms just where the last bag that is needed does
    by_threats = curve([scores[count - 1], 0.05], scores)
    assert by_threats.false_alarms_at(percent / 100) == 0.5
    by_threats = curve([scores[count], 0.05], scores)
    assert by_threats.false_alarms_at(percent / 100) == 0


@pytest.mark.parametrize(("clean", "threats"), [([], [0.5]), ([0.5], []), ([], [])])
def test_without_bags_of_a_kind_there_is_no_figure(clean, threats):
    found = curve(clean, threats)
    assert np.isnan(found.detection_at(0.1)) and np.isnan(found.area())


@given(st.lists(SCORES, min_size=1, max_size=12), st.lists(SCORES, min_size=1, max_size=12))
def test_the_area_is_the_rank_statistic_where_all_alarms_are_hits(clean, threats):
    # bags that never alarm are the last of all
    found = curve(*([0.0 if score == NEVER else score for score in scores] for scores in (clean, threats)))
    expected = mannwhitneyu(threats, clean).statistic / (len(clean) * len(threats))
    assert found.area() == pytest.approx(expected)


@given(st.lists(SCORES, min_size=1, max_size=12), st.lists(SCORES, min_size=1, max_size=12), st.floats(0, 1))
def test_no_lower_threshold_would_do(clean, threats, rate):
    found = curve(clean, threats)
    place = found.place_at(rate)
    assert np.mean(np.array(clean) >= found.thresholds[place]) <= rate + ROUNDING
    if place + 1 < len(found.thresholds):
        assert np.mean(np.array(clean) >= found.thresholds[place + 1]) > rate


def test_a_partial_area_is_that_of_its_part():
    found = curve([0.5, 0.3], [0.9, 0.4])
    assert found.area(0.5) == pytest.approx(0.5) and found.area() == pytest.approx(0.75)


def test_draws_are_those_of_drawing_bags_anew():
    random = np.random.default_rng(3)
    is_threat, alarm = random.random(40) < 0.5, random.random(40).round(1)
    hit = np.where(random.random(40) < 0.7, alarm, NEVER)
    drawn = draw_figures(is_threat, alarm, hit, [0.0, 0.1, 0.5], [0.3, 0.9], resamples=5, seed=1)
    # the draws of numpy's generator, clean bags first
    random = np.random.default_rng(1)
    clean, threats = np.flatnonzero(~is_threat), np.flatnonzero(is_threat)
    parts = [clean[random.integers(len(clean), size=(5, len(clean)))]]
    parts.append(threats[random.integers(len(threats), size=(5, len(threats)))])
    for draw, bags in enumerate(np.concatenate(parts, axis=1)):
        anew = Curve.of(is_threat[bags], alarm[bags], hit[bags])
        assert drawn.detections[draw].tolist() == [anew.detection_at(rate) for rate in (0.0, 0.1, 0.5)]
        assert drawn.false_alarms[draw, 0] == anew.false_alarms_at(0.3)
        assert drawn.area[draw] == pytest.approx(anew.area())
    assert (drawn.false_alarms[:, 1] == 1).all()  # so much no draw detects


def test_a_rate_that_no_threshold_reaches_has_no_interval_and_the_others_do():
    is_threat = np.arange(40) >= 20
    scores = np.random.default_rng(0).random(40) + is_threat
    found = screen("all", is_threat, scores, np.where(np.arange(40) < 39, scores, NEVER), resamples=50)
    assert found.false_alarms_at == {0.9: 0.0, 0.95: 0.0}
    low, high = found.false_alarms_at_bounds[0.95]
    assert (low, high) == (0, 1)  # in some draws the missed threat comes twice, and 95 % are out of reach
    assert found.area_low < found.area < found.area_high
    missed = screen("all", is_threat, scores, np.full(40, NEVER), resamples=50)
    assert np.isnan([missed.false_alarms_at[0.9], *missed.false_alarms_at_bounds[0.9]]).all()


@pytest.mark.slow
def test_intervals_hold_the_true_rate_as_often_as_they_say():
    # scores of clean bags are normal, those of threats, too, 2 higher: the true P_D at P_FA is known
    rate, truth = 0.1, float(norm.sf(norm.isf(0.1) - 2))
    random, held, stated, areas, trials = np.random.default_rng(0), 0, 0, 0, 400
    is_threat = np.arange(600) >= 300
    for seed in range(trials):
        scores = random.normal(size=600) + 2 * is_threat
        options = {"resamples": 400, "seed": seed}
        drawn = draw_figures(is_threat, scores, scores, [rate], **options)
        low, high = np.percentile(drawn.detections, [2.5, 97.5])
        held += low <= truth <= high
        [point] = screen("all", is_threat, scores, scores, [rate], **options).points
        stated += point.detection_low <= truth <= point.detection_high
        low, high = np.percentile(drawn.area, [2.5, 97.5])
        areas += low <= norm.cdf(2 / np.sqrt(2)) <= high
    assert 0.93 <= areas / trials <= 0.97
    assert 0.93 <= held / trials <= 0.97
    assert 0.93 <= stated / trials <= 0.97
