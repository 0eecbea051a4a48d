"""Epochs of bags: all views in one batch of one process, resumable, balanced by bags."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.data.bag_sampling import BagEpochs
from xray_lazy.data.balance import EmptyShare, RepeatFactors
from xray_lazy.data.loaders import TrainLoader
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.sampling import BatchStream
from xray_lazy.errors import UserError


def record(bag, view, classes=()):
    items = [{"category_id": one, "iscrowd": 0, "bbox": [0, 0, 1, 1]} for one in classes]
    return {"file_name": f"{bag}_{view}.png", "dataset_name": "x", "bag": bag, "view": view, "annotations": items}


# views far from one another; class 1 is rare, and shows in one view only; bag 9 lacks a view
BAGS = [record(f"b{n}", "top", [0] if n % 3 else []) for n in range(9)]
BAGS += [record(f"b{n}", "side", [1] if n == 4 else []) for n in range(9)] + [record("b9", "top", [0])]
SAMPLERS = {
    "plain": BagEpochs(3),
    "a fraction": BagEpochs(3, fraction=0.4),
    "repeat factors": BagEpochs(3, balance=[RepeatFactors(0.3)]),
    "empty bags": BagEpochs(3, balance=[EmptyShare(0.5)]),
}
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def take(stream, count):
    return list(islice(stream, count))


@each_sampler
@given(start=st.integers(0, 120))
def test_a_stream_that_starts_later_goes_on_as_the_whole_one_does(sampler, start):
    assert take(sampler.stream(BAGS, start), 20) == take(sampler.stream(BAGS, 0), start + 20)[start:]


@each_sampler
@given(world_size=st.sampled_from([1, 2, 3]), start=st.integers(0, 9))
def test_each_process_has_whole_bags_and_all_together_have_the_batches_of_one(sampler, world_size, start):
    def batches(world, rank):
        return take(BatchStream(sampler, BAGS, 12, rank, world, start * 12), 4)

    alone = batches(1, 0)
    shared = [batches(world_size, rank) for rank in range(world_size)]
    for step in range(4):
        assert sorted(place for one in shared for place in one[step]) == sorted(alone[step])
        for batch in (one[step] for one in shared):
            for (_, first), (_, second) in zip(batch[::2], batch[1::2], strict=True):
                assert BAGS[first]["bag"] == BAGS[second]["bag"]
                assert first != second or BAGS[first]["bag"] == "b9"


def test_an_epoch_has_each_view_once_and_a_missing_one_is_filled():
    sampler = BagEpochs(0)
    length = sampler.epoch_length(BAGS)
    counts = Counter(index for _, index in take(sampler.stream(BAGS, length), length))
    assert length == 20 and counts == Counter({18: 2, **dict.fromkeys(range(18), 1)})


def test_bags_are_balanced_by_the_items_of_all_their_views():
    times = BagEpochs(0, balance=[RepeatFactors(0.9)]).times(BAGS)
    np.testing.assert_allclose(times[4], np.sqrt(0.9 / 0.1))  # the class is in 1 of 10 bags
    assert times[0] == times[3] == 1  # empty in both views
    times = BagEpochs(0, balance=[EmptyShare(0.5)]).times(BAGS)
    np.testing.assert_allclose(times[[0, 3, 6]].sum(), 7)  # as many as with an item in a view


@pytest.mark.parametrize(
    ("records", "batch", "complaint"),
    [(BAGS, 3, "bags of 2 views do not go"), (BAGS[:9], 4, "no two images of the training set name the same bag")],
)
def test_what_can_not_be_kept_together_is_refused(records, batch, complaint):
    with pytest.raises(UserError, match=complaint):
        TrainLoader(records, DetectionMapper([]), BagEpochs(0), batch, num_workers=0)
