"""Batches of images of one size: none is padded to the size of another, so that a batch changes no detection."""

from collections.abc import Iterable, Iterator, Sequence

import torch


class EqualSizeBatches(torch.utils.data.Sampler[list[int]]):
    """A batch sampler for evaluation.

    A detector sees the padding of an image that is smaller than others of its batch, and finds other things near its
    edge. Images of one size have the padding that they have alone.

    Args:
        indices: of the images of this process.
        sizes: (height, width) of all images of the data set.
        batch_size: images in a batch; those that are left over of a size come at the end, in smaller batches.
    """

    def __init__(self, indices: Iterable[int], sizes: Sequence[tuple[int, int] | None], batch_size: int):
        batches: list[list[int]] = []
        open_batches: dict[tuple[int, int] | None, list[int]] = {}
        for index in indices:
            batch = open_batches.setdefault(sizes[index], [])
            batch.append(index)
            if len(batch) == batch_size:
                batches.append(open_batches.pop(sizes[index]))
        self._batches = [*batches, *open_batches.values()]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)
