"""In which order training sees images: a function of seed and position, so that no run has to remember it."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

# From the records and how often each is in an epoch, shape (N,), to how often each should be.
Balance = Callable[[Sequence[dict], np.ndarray], np.ndarray]


class ShuffledEpochs:
    """An endless stream of shuffled epochs.

    The image at a position of the stream depends on seed and data set alone: not on the number of processes or
    workers, and a resumed run continues it from the iteration number.

    Args:
        seed: of the shuffles and of what is drawn.
        shuffle: False keeps the data set's own order in each epoch.
        fraction: of an epoch's images, each epoch has other ones. (A part that is fixed over the run is the data
            set's business: `load_datasets(..., fraction=...)`.)
        balance: how often images of a kind are in an epoch, see `xray_lazy.data.balance`. Several work one after the
            other, so that the last one's promise holds exactly.

    An image that is to be in an epoch 2.3 times is there twice, and a third time in 30 % of the epochs. All epochs
    have the same length: which images are there once more is drawn so that their number is the same.
    """

    def __init__(self, seed: int, shuffle: bool = True, fraction: float = 1.0, balance: Sequence[Balance] = ()):
        if not 0 < fraction <= 1:
            raise UserError(f"an epoch can't have the fraction {fraction} of the images", "give one in (0, 1]")
        for balances in balance:
            if not callable(balances):
                raise UserError(
                    f"{balances!r} in the sampler's balance balances nothing", "name parts of xray_lazy.data.balance"
                )
        self.seed, self.shuffle, self.fraction, self.balance = seed, shuffle, fraction, tuple(balance)

    def times(self, dataset: Sequence[dict]) -> np.ndarray:
        """How often each image is in an epoch on average, shape `(N,)`.

        Raises:
            UserError: the data set doesn't have what is to be balanced.
        """
        times = np.ones(len(dataset))
        for balance in self.balance:
            times = balance(dataset, times)
        # without the last digits, in which a whole number may be a little less than one
        times = np.round(times * self.fraction, 9)
        if not times.any():
            raise UserError("the sampler leaves no image to train on", "look at dataloader.train.sampler.balance")
        return times

    def epoch_length(self, dataset: Sequence[dict]) -> int:
        """Images in an epoch, repeated ones counted as often as they are there."""
        return length_of(self.times(dataset))

    def stream(self, dataset: Sequence[dict], start: int) -> Iterator[tuple[int, int]]:
        """Pairs of (position in the stream, index of the image), from position `start` on."""
        return self.places(self.times(dataset), start)

    def places(self, times: np.ndarray, start: int) -> Iterator[tuple[int, int]]:
        """Pairs of (place, index) of what is there `times` (N,) in an epoch, from place `start` on."""
        length = length_of(times)
        epoch, offset = divmod(start, length)
        while True:
            order = self._order(times, epoch)
            for place in range(offset, length):
                yield epoch * length + place, int(order[place])
            epoch, offset = epoch + 1, 0

    def _order(self, times: np.ndarray, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        indices = np.repeat(np.arange(len(times)), _whole_times(times, generator))
        return indices[generator.permutation(len(indices))] if self.shuffle else indices


def images_together(sampler: ShuffledEpochs, dataset: Sequence[dict]) -> int:
    """How many images that follow one another stay in one batch of one process: its `together`, where it has that."""
    together = getattr(sampler, "together", None)
    return together(dataset) if together else 1


def check_together(sampler: ShuffledEpochs, dataset: Sequence[dict], batch: int) -> None:
    """Refuse a batch of a process that breaks what stays together.

    Raises:
        UserError: `batch` is no multiple of it, or nothing of the data set belongs together.
    """
    together = images_together(sampler, dataset)
    if batch % together:
        raise UserError(
            f"a process works through {counted(batch, 'image')} at once, into which bags of {together} views do not go",
            f"set dataloader.train.total_batch_size so that each process, and each part of train.accumulate, has a "
            f"multiple of {together}",
        )


class BatchStream:
    """The batches of one process: every `world_size`-th place of each global batch, without end. Images that stay
    together have one place.

    Args:
        sampler: gives the stream.
        dataset: the records.
        total_batch_size: of all processes together; divisible by `world_size`.
        images_seen: places of the stream that come before the first batch.
        similar_shapes: sort the images of so many batches by width / height before they are dealt out, and take these
            batches in a random order: those of a batch then need little padding to one size. 1 sorts nothing.
    """

    def __init__(
        self,
        sampler: ShuffledEpochs,
        dataset: Sequence[dict],
        total_batch_size: int,
        rank: int,
        world_size: int,
        images_seen: int,
        similar_shapes: int = 1,
    ):
        self.similar_shapes = similar_shapes
        self.sampler, self.dataset, self.total_batch_size = sampler, dataset, total_batch_size
        self.rank, self.world_size, self.images_seen = rank, world_size, images_seen
        is_sorted = similar_shapes > 1
        self._shapes = [record["width"] / max(record["height"], 1) for record in dataset] if is_sorted else []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        together = images_together(self.sampler, self.dataset)
        size = self.total_batch_size // together
        # from the first of the batches that are sorted together, some of which may be over
        first, over = divmod(self.images_seen, self.total_batch_size * self.similar_shapes)
        stream = self.sampler.stream(self.dataset, self.images_seen - over)
        for number in itertools.count(first):
            places = [[next(stream) for _ in range(together)] for _ in range(size * self.similar_shapes)]
            order = range(self.similar_shapes)
            if self.similar_shapes > 1:
                places.sort(key=lambda images: self._shapes[images[0][1]])  # stable: as random as they were
                order = np.random.default_rng([self.sampler.seed, number]).permutation(self.similar_shapes)
            batches = [places[place * size : (place + 1) * size] for place in order]
            for batch in batches[over // self.total_batch_size :]:
                yield [image for images in batch[self.rank :: self.world_size] for image in images]
            over = 0


def length_of(times: np.ndarray) -> int:
    whole = np.floor(times)
    return max(1, int(whole.sum()) + round(float((times - whole).sum())))


def _whole_times(times: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """`times` (N,) rounded up or down at random, to integers with the sum `length_of(times)`.

    Systematic sampling in a random order: the images lie side by side on a line, each as long as the fraction of its
    `times`, and those that the marks of a ruler of unit steps fall on are there once more. The ruler is put down
    at random; the line is stretched to a whole number of steps, which changes the frequencies by less than one image.
    """
    whole = np.floor(times).astype(int)
    rest = times - whole
    steps = length_of(times) - whole.sum()
    if not steps:
        return whole
    order = generator.permutation(len(times))
    ends = np.cumsum(rest[order]) * (steps / rest.sum())
    marks = np.minimum(np.floor(ends + generator.random()), steps)
    marks[ends >= ends[-1]] = steps
    whole[order] += np.diff(marks, prepend=0).astype(int)
    return whole
