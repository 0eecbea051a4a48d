"""The order of images depends on seed and position alone."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xray_lazy.data.balance import ClassBalance, DatasetBalance, EmptyShare, RepeatFactors
from xray_lazy.data.sampling import BatchStream, ShuffledEpochs
from xray_lazy.errors import UserError


def take(stream, count):
    return list(itertools.islice(iter(stream), count))


def records(*bags):
    """Records from (data set, classes in the bag); a class -1 is a crowd region."""
    return [
        {"dataset_name": name, "annotations": [{"category_id": max(c, 0), "iscrowd": int(c < 0)} for c in classes]}
        for name, classes in bags
    ]


# 30 bags of two scanners: class 0 in 20, class 1 in 4, class 2 in 1, and 6 without instances
BAGS = records(
    *[("smith", [0])] * 15, *[("rapiscan", [0, 0])] * 4, ("smith", [0, 1]), *[("smith", [1])] * 3, ("smith", [2]),
    *[("smith", [])] * 3, *[("rapiscan", [])] * 2, ("rapiscan", [-1]),
)  # fmt: skip
SCANNERS = np.array([bag["dataset_name"] for bag in BAGS])
EMPTY = np.array([all(a["iscrowd"] for a in bag["annotations"]) for bag in BAGS])

SAMPLERS = {
    "plain": ShuffledEpochs(3),
    "in order": ShuffledEpochs(3, shuffle=False),
    "another fraction in each epoch": ShuffledEpochs(3, fraction=0.3),
    "repeat factors": ShuffledEpochs(3, balance=[RepeatFactors(0.2)]),
    "classes": ShuffledEpochs(3, balance=[ClassBalance()]),
    "scanners": ShuffledEpochs(3, balance=[DatasetBalance()]),
    "empty bags": ShuffledEpochs(3, balance=[EmptyShare(0.4)]),
    "all of them": ShuffledEpochs(3, True, 0.7, [RepeatFactors(0.2), EmptyShare(0.4), DatasetBalance()]),
}
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def epoch_of(sampler, dataset, epoch):
    """The indices of one epoch."""
    length = sampler.epoch_length(dataset)
    return [index for _, index in take(sampler.stream(dataset, epoch * length), length)]


def seen(sampler, epochs, dataset=BAGS):
    """How often each bag is in that many epochs, per epoch, shape (N,)."""
    counts = Counter(index for _, index in take(sampler.stream(dataset, 0), epochs * sampler.epoch_length(dataset)))
    return np.array([counts[index] for index in range(len(dataset))]) / epochs


@given(size=st.integers(1, 50), seed=st.integers(0, 5), epochs=st.integers(1, 4))
def test_every_epoch_shows_each_image_once(size, seed, epochs):
    places = take(ShuffledEpochs(seed).stream(range(size), 0), size * epochs)
    assert [position for position, _ in places] == list(range(size * epochs))
    for epoch in range(epochs):
        indices = [index for _, index in places[epoch * size : (epoch + 1) * size]]
        assert sorted(indices) == list(range(size))


@each_sampler
@given(start=st.integers(0, 200))
def test_a_stream_that_starts_later_goes_on_as_the_whole_one_does(sampler, start):
    assert take(sampler.stream(BAGS, start), 20) == take(sampler.stream(BAGS, 0), start + 20)[start:]


def test_epochs_differ_in_their_order():
    sampler = ShuffledEpochs(seed=0)
    assert epoch_of(sampler, range(30), 0) != epoch_of(sampler, range(30), 1)


def test_without_shuffling_the_order_is_that_of_the_data_set():
    stream = ShuffledEpochs(0, shuffle=False).stream(range(3), 0)
    assert [index for _, index in take(stream, 7)] == [0, 1, 2, 0, 1, 2, 0]


@each_sampler
@given(world_size=st.sampled_from([1, 2, 3, 6]), start=st.integers(0, 9))
def test_processes_together_see_the_batches_of_one_process(sampler, world_size, start):
    def batches(world, rank):
        return take(BatchStream(sampler, BAGS, 6, rank, world, start * 6), 4)

    alone = batches(1, 0)
    shared = [batches(world_size, rank) for rank in range(world_size)]
    for step in range(4):
        together = sorted(place for rank in range(world_size) for place in shared[rank][step])
        assert together == sorted(alone[step])


@given(world_size=st.sampled_from([1, 2, 3]), start=st.integers(0, 9))
def test_batches_of_similar_shapes_have_the_same_images_after_a_resume_and_in_all_processes(world_size, start):
    shapes = [{"width": 10 + 37 * index % 30, "height": 10} for index in range(30)]
    sampler = ShuffledEpochs(3)

    def batches_of(from_batch, count, rank=0, world=1, similar_shapes=5):
        return take(BatchStream(sampler, shapes, 6, rank, world, from_batch * 6, similar_shapes), count)

    def spread(batch):
        widths = [shapes[index]["width"] for _, index in batch]
        return max(widths) - min(widths)

    alone, plain = batches_of(0, 15), batches_of(0, 15, similar_shapes=1)
    assert batches_of(start, 5) == alone[start : start + 5]
    shared = [batches_of(start, 5, rank, world_size) for rank in range(world_size)]
    for step, batch in enumerate(alone[start : start + 5]):
        assert sorted(place for rank in shared for place in rank[step]) == sorted(batch)
    for group in range(3):
        of_group = slice(5 * group, 5 * group + 5)
        images = [sorted(itertools.chain.from_iterable(batches[of_group])) for batches in (alone, plain)]
        assert images[0] == images[1]
    assert sum(map(spread, alone)) < 0.5 * sum(map(spread, plain))


@given(
    times=st.lists(st.floats(0, 4), min_size=1, max_size=40),
    fraction=st.sampled_from([0.1, 0.5, 1.0]),
    epoch=st.integers(0, 9),
)
def test_every_epoch_has_the_length_that_is_told_and_each_image_about_its_times(times, fraction, epoch):
    times = np.array(times)
    assume((times * fraction).max() > 1e-9)
    sampler = ShuffledEpochs(1, fraction=fraction, balance=[lambda dataset, _: times])
    counts = np.bincount(epoch_of(sampler, range(len(times)), epoch), minlength=len(times))
    assert counts.sum() == sampler.epoch_length(range(len(times)))
    assert abs(counts.sum() - times.sum() * fraction) <= 0.5 + 1e-6 or counts.sum() == 1
    wanted = np.round(times * fraction, 9)
    assert (counts >= np.floor(wanted)).all() and (counts <= np.ceil(wanted) + 1).all()


def test_images_are_there_as_often_on_average_as_they_shall_be():
    times = np.linspace(0.05, 2.95, 30)
    found = seen(ShuffledEpochs(1, balance=[lambda dataset, _: times]), 2000)
    np.testing.assert_allclose(found, times, atol=0.05)


def test_a_fraction_is_another_one_in_each_epoch_and_shows_all_images_in_the_end():
    sampler = ShuffledEpochs(0, fraction=0.25)
    first, second = (epoch_of(sampler, range(40), epoch) for epoch in (0, 1))
    assert len(first) == len(set(first)) == sampler.epoch_length(range(40)) == 10
    assert set(first) != set(second)
    np.testing.assert_allclose(seen(sampler, 1000, range(40)), 0.25, atol=0.06)


def test_repeat_factors_are_those_of_the_paper():
    # class 0 is in 20 of 30 images, 1 in 4, 2 in one
    times = ShuffledEpochs(0, balance=[RepeatFactors(0.3)]).times(BAGS)
    common, both, rare, rarest = times[0], times[19], times[20], times[23]
    assert (common, both, rare) == pytest.approx((1.0, (0.3 / (4 / 30)) ** 0.5, (0.3 / (4 / 30)) ** 0.5))
    assert rarest == pytest.approx((0.3 / (1 / 30)) ** 0.5) and (times[EMPTY] == 1).all()
    assert ShuffledEpochs(0, balance=[RepeatFactors(0.3)]).epoch_length(BAGS) == round(times.sum()) > 30


def test_repeat_factors_are_those_of_detectron2():
    from detectron2.data.samplers import RepeatFactorTrainingSampler

    without_crowd = [{"annotations": [a for a in bag["annotations"] if not a["iscrowd"]]} for bag in BAGS]
    expected = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(without_crowd, 0.3)
    np.testing.assert_allclose(RepeatFactors(0.3)(BAGS, np.ones(30)), expected.numpy(), rtol=1e-6)


def test_balanced_classes_are_equally_frequent_and_empty_bags_stay():
    bags = records(*[("s", [0])] * 20, *[("s", [1, 1])] * 4, ("s", [2]), *[("s", [])] * 5)
    found = seen(ShuffledEpochs(0, balance=[ClassBalance()]), 300, bags)
    found_by_class = [found[:20].sum(), found[20:24].sum(), found[24]]
    np.testing.assert_allclose(found_by_class, [25 / 3] * 3, atol=0.1)
    assert (found[25:] == 1).all()


def test_scanners_are_equally_frequent_or_by_weight():
    even = seen(ShuffledEpochs(0, balance=[DatasetBalance()]), 500)
    assert even[SCANNERS == "smith"].sum() == pytest.approx(15, abs=0.1) and even.sum() == 30
    weighted = seen(ShuffledEpochs(0, balance=[DatasetBalance({"rapiscan": 2, "smith": 1})]), 500)
    assert weighted[SCANNERS == "smith"].sum() == pytest.approx(10, abs=0.1)
    left_out = seen(ShuffledEpochs(0, balance=[DatasetBalance({"rapiscan": 1, "smith": 0})]), 5)
    assert left_out[SCANNERS == "smith"].sum() == 0 and left_out.sum() == 30


@pytest.mark.parametrize("share", [0, 0.05, 0.2, 0.5, 0.9])
def test_empty_bags_have_their_share_and_all_others_are_there_once(share):
    sampler = ShuffledEpochs(0, balance=[EmptyShare(share)])
    found = seen(sampler, 50)
    assert (found[~EMPTY] == 1).all()
    assert found[EMPTY].sum() == round(24 * share / (1 - share))
    assert found[EMPTY].sum() / found.sum() == pytest.approx(share, abs=0.02)


def test_of_several_balances_the_last_holds_and_those_before_hold_within_it():
    found = seen(ShuffledEpochs(0, balance=[DatasetBalance(), EmptyShare(0.5)]), 1000)
    assert found[EMPTY].sum() == pytest.approx(found[~EMPTY].sum(), abs=1)
    # the image of class 2 is repeated, and the scanners are even all the same
    found = seen(ShuffledEpochs(0, balance=[RepeatFactors(0.5), DatasetBalance()]), 1000)
    assert found[SCANNERS == "smith"].sum() == pytest.approx(found[SCANNERS == "rapiscan"].sum(), abs=1)
    assert found[23] > 2 * found[0]


@pytest.mark.parametrize(
    ("balance", "words"),
    [
        (DatasetBalance({"smith": 1}), "loaded are smith, rapiscan"),
        (DatasetBalance({"smith": 1, "rapiscan": -1}), "weights"),
        (DatasetBalance({"smith": 0, "rapiscan": 0}), "weights"),
    ],
)
def test_weights_must_fit_the_data_sets(balance, words):
    with pytest.raises(UserError, match=words):
        ShuffledEpochs(0, balance=[balance]).epoch_length(BAGS)


def test_a_balance_that_leaves_nothing_is_refused():
    with pytest.raises(UserError, match="no image"):
        ShuffledEpochs(0, balance=[lambda dataset, times: times * 0]).epoch_length(BAGS)


def test_what_the_data_set_does_not_have_cannot_be_balanced():
    full, empty = records(("s", [0])), records(("s", []))
    with pytest.raises(UserError, match="no empty bags"):
        ShuffledEpochs(0, balance=[EmptyShare(0.1)]).epoch_length(full)
    with pytest.raises(UserError, match="all bags are empty"):
        ShuffledEpochs(0, balance=[EmptyShare(0.1)]).epoch_length(empty)
    with pytest.raises(UserError, match="no instances"):
        ShuffledEpochs(0, balance=[ClassBalance()]).epoch_length(empty)


@pytest.mark.parametrize(
    "make", [lambda: EmptyShare(1.0), lambda: EmptyShare(-0.1), lambda: ShuffledEpochs(0, fraction=0)]
)
def test_shares_and_fractions_out_of_range_are_refused(make):
    with pytest.raises(UserError, match="in "):
        make()
