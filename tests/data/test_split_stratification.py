"""Which image goes where: exact shares, rare classes, groups, and chance that depends on names and seed only."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.data.split.stratification import assign_splits, whole_shares

RATIOS = (0.7, 0.15, 0.15)


@st.composite
def ratios(draw):
    """Three shares that sum to 1, some of them 0."""
    weights = draw(st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any))
    return [weight / sum(weights) for weight in weights]


images = st.lists(st.frozensets(st.sampled_from(["gun", "knife", "scissors", "battery"]), max_size=3), min_size=3)


def names_of(classes) -> list[str]:
    return [f"bag_{number}.png" for number in range(len(classes))]


@pytest.mark.parametrize(
    ("total", "shares", "expected"),
    [
        (13, RATIOS, [9, 2, 2]),
        (100, RATIOS, [70, 15, 15]),
        (3, RATIOS, [1, 1, 1]),
        (4, RATIOS, [2, 1, 1]),
        (2, RATIOS, [1, 1, 0]),
        (10, (0.8, 0.2, 0), [8, 2, 0]),
        (0, RATIOS, [0, 0, 0]),
        (1000, (0.998, 0.001, 0.001), [998, 1, 1]),
    ],
)
def test_shares_are_whole_and_nobody_goes_empty_where_there_is_enough(total, shares, expected):
    assert whole_shares(total, shares) == expected


@given(st.integers(0, 5000), ratios())
def test_shares_sum_to_the_total_and_follow_the_ratios(total, shares):
    dealt = whole_shares(total, shares)
    assert sum(dealt) == total
    assert all(got == 0 for got, ratio in zip(dealt, shares, strict=True) if ratio == 0)
    if all(ratio == 0 or total * ratio >= 1 for ratio in shares):
        assert all(abs(got - total * ratio) < 1 for got, ratio in zip(dealt, shares, strict=True))


@given(images, ratios(), st.integers(0, 5))
def test_splits_of_single_images_have_exactly_their_share(classes, shares, seed):
    names = names_of(classes)
    counts = Counter(assign_splits(names, classes, names, shares, seed))
    assert [counts[split] for split in range(3)] == whole_shares(len(classes), shares)


@given(images, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(classes, seed, random):
    names = names_of(classes)
    first = dict(zip(names, assign_splits(names, classes, names, RATIOS, seed), strict=True))
    order = list(range(len(names)))
    random.shuffle(order)
    shuffled = [names[i] for i in order]
    second = assign_splits(shuffled, [classes[i] for i in order], shuffled, RATIOS, seed)
    assert dict(zip(shuffled, second, strict=True)) == first


@given(images, st.data(), st.integers(0, 5))
def test_groups_stay_together_and_no_split_is_empty_where_there_are_enough_groups(classes, data, seed):
    groups = data.draw(st.lists(st.integers(0, 6), min_size=len(classes), max_size=len(classes)))
    assigned = assign_splits(names_of(classes), classes, groups, RATIOS, seed)
    assert all(len({s for s, g in zip(assigned, groups, strict=True) if g == group}) == 1 for group in groups)
    assert len(set(assigned)) == min(3, len(set(groups)))


@pytest.mark.parametrize("seed", range(20))
def test_classes_of_three_images_reach_every_split(seed):
    classes = [{"bottle"}] * 60 + [{"gun"}] * 3 + [{"knife", "bottle"}] * 3 + [{"gun", "bat"}] * 3 + [set()] * 31
    names = names_of(classes)
    assigned = assign_splits(names, classes, names, RATIOS, seed)
    for name in ("bottle", "gun", "knife", "bat"):
        assert {split for split, found in zip(assigned, classes, strict=True) if name in found} == {0, 1, 2}
    assert {split for split, found in zip(assigned, classes, strict=True) if not found} == {0, 1, 2}


def test_a_common_class_is_divided_by_the_ratios():
    classes = [{"gun"}] * 400 + [{"gun", "knife"}] * 100 + [set()] * 500
    names = names_of(classes)
    assigned = assign_splits(names, classes, names, RATIOS, 0)
    for name, total in (("gun", 500), ("knife", 100)):
        counts = Counter(split for split, found in zip(assigned, classes, strict=True) if name in found)
        assert [counts[split] for split in range(3)] == pytest.approx([0.7 * total, 0.15 * total, 0.15 * total], abs=1)


def test_groups_of_several_sizes_still_come_close_to_the_ratios():
    groups = [bag for bag in range(100) for _ in range(1 + bag % 5)]
    classes = [{"gun"} if bag % 3 else set() for bag in groups]
    counts = Counter(assign_splits(names_of(groups), classes, groups, RATIOS, 0))
    assert [counts[split] for split in range(3)] == pytest.approx([210, 45, 45], abs=3)


def test_another_seed_gives_another_split():
    names = names_of(range(50))
    splits = {tuple(assign_splits(names, [()] * 50, names, RATIOS, seed)) for seed in range(5)}
    assert len(splits) == 5
