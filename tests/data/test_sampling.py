"""The order of pictures depends on seed and position alone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from xray_lazy.data.sampling import BatchStream, ShuffledEpochs


def take(stream, count):
    return list(itertools.islice(iter(stream), count))


@given(size=st.integers(1, 50), seed=st.integers(0, 5), epochs=st.integers(1, 4))
def test_every_epoch_shows_each_picture_once(size, seed, epochs):
    places = take(ShuffledEpochs(seed).stream(size, 0), size * epochs)
    assert [position for position, _ in places] == list(range(size * epochs))
    for epoch in range(epochs):
        indices = [index for _, index in places[epoch * size : (epoch + 1) * size]]
        assert sorted(indices) == list(range(size))


@given(size=st.integers(1, 50), start=st.integers(0, 200))
def test_a_stream_that_starts_later_goes_on_as_the_whole_one_does(size, start):
    sampler = ShuffledEpochs(seed=3)
    assert take(sampler.stream(size, start), 20) == take(sampler.stream(size, 0), start + 20)[start:]


def test_epochs_differ_in_their_order():
    sampler = ShuffledEpochs(seed=0)
    assert list(sampler.epoch_order(30, 0)) != list(sampler.epoch_order(30, 1))


def test_without_shuffling_the_order_is_that_of_the_data_set():
    assert [index for _, index in take(ShuffledEpochs(0, shuffle=False).stream(3, 0), 7)] == [0, 1, 2, 0, 1, 2, 0]


@given(world_size=st.sampled_from([1, 2, 3, 6]), start=st.integers(0, 9))
def test_processes_together_see_the_batches_of_one_process(world_size, start):
    def batches(world, rank):
        return take(BatchStream(ShuffledEpochs(5), 10, 6, rank, world, start), 4)

    alone = batches(1, 0)
    shared = [batches(world_size, rank) for rank in range(world_size)]
    for step in range(4):
        together = sorted(place for rank in range(world_size) for place in shared[rank][step])
        assert together == sorted(alone[step])
