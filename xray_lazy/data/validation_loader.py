"""Images for the validation loss: each of them once, in batches like those of training."""

from collections.abc import Callable, Iterator

from detectron2.utils import comm

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.loaders import TestLoader
from xray_lazy.data.memory.packed_records import packed
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted


class ValidationLoader:
    """One pass over a data set in global batches that are shared evenly between the processes.

    Args:
        dataset: the records.
        mapper: from a record to a sample with `instances`; nothing in it should be random.
        total_batch_size: images per batch over all processes; losses are means over a batch, so that of training.
        num_workers: as `TestLoader`.

    Iterating gives pairs of this process's share of a batch and the number of images that the whole batch stands
    for. Every batch is full, so that all processes run the model equally often and with equally many images: sums
    over processes inside a model meet. They see an image that can't be read as `TestLoader`'s do.
    """

    def __init__(
        self, dataset: DetectionDataset, mapper: Callable[[dict], dict], total_batch_size: int, num_workers: int = 4
    ):
        world_size = comm.get_world_size()
        if total_batch_size % world_size:
            raise UserError(
                f"a batch of {counted(total_batch_size, 'validation image')} can't be spread over "
                f"{world_size} processes",
                f"set dataloader.validation.total_batch_size to a multiple of {world_size}",
            )
        self.dataset = dataset
        batches = full_batches(len(dataset), total_batch_size)
        self._weights = [weight for _, weight in batches]
        # a test loader gives each process one run of neighbours: here, its shares of all batches
        order = [place for rank in range(world_size) for batch, _ in batches for place in batch[rank::world_size]]
        records = packed(dataset).in_order(order)
        self._loader = TestLoader(records, mapper, total_batch_size // world_size, num_workers, mixed_sizes=True)

    def __iter__(self) -> Iterator[tuple[list[dict], int]]:
        return zip(self._loader, self._weights, strict=True)


def full_batches(count: int, size: int) -> list[tuple[list[int], int]]:
    """Batches of exactly `size` of the numbers below `count`, each with how many different ones it has.

    Every number is in one batch. A batch of fewer different numbers, such as the last, repeats all of them equally
    often, so that its mean is theirs.
    """
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    batches, start = [], 0
    while start < count:
        different = max(number for number in divisors if number <= count - start)
        batches.append((list(range(start, start + different)) * (size // different), different))
        start += different
    return batches
