"""In which order training sees pictures: a function of seed and position, so that no run has to remember it."""

from collections.abc import Iterator

import numpy as np


class ShuffledEpochs:
    """An endless stream of shuffled epochs.

    The picture at a position of the stream depends on the seed alone: not on the number of processes or workers, and
    a resumed run continues it from the iteration number.

    Args:
        seed: of the shuffles.
        shuffle: False repeats the data set's own order.
    """

    def __init__(self, seed: int, shuffle: bool = True):
        self.seed = seed
        self.shuffle = shuffle

    def epoch_order(self, size: int, epoch: int) -> np.ndarray:
        """The indices of one epoch over `size` pictures, shape `(size,)`."""
        if not self.shuffle:
            return np.arange(size)
        return np.random.default_rng([self.seed, epoch]).permutation(size)

    def stream(self, size: int, start: int) -> Iterator[tuple[int, int]]:
        """Pairs of (position in the stream, index of the picture), from position `start` on."""
        epoch, offset = divmod(start, size)
        while True:
            order = self.epoch_order(size, epoch)
            for place in range(offset, size):
                yield epoch * size + place, int(order[place])
            epoch, offset = epoch + 1, 0


class BatchStream:
    """The batches of one process: every `world_size`-th place of each global batch, without end.

    Args:
        sampler: gives the stream.
        size: pictures in the data set.
        total_batch_size: of all processes together; divisible by `world_size`.
        start_iteration: the first batch belongs to this iteration.
    """

    def __init__(
        self,
        sampler: ShuffledEpochs,
        size: int,
        total_batch_size: int,
        rank: int,
        world_size: int,
        start_iteration: int,
    ):
        self.sampler, self.size, self.total_batch_size = sampler, size, total_batch_size
        self.rank, self.world_size, self.start_iteration = rank, world_size, start_iteration

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        stream = self.sampler.stream(self.size, self.start_iteration * self.total_batch_size)
        while True:
            batch = [next(stream) for _ in range(self.total_batch_size)]
            yield batch[self.rank :: self.world_size]
