"""Epochs of bags in place of images: all views of a bag come into the same batch."""

from collections.abc import Iterator, Sequence

import numpy as np

from xray_lazy.data.bag_names import BAG
from xray_lazy.data.datasets import WEIGHT
from xray_lazy.data.sampling import ShuffledEpochs, length_of
from xray_lazy.errors import UserError


class BagEpochs(ShuffledEpochs):
    """As `ShuffledEpochs`, of bags: the views of each follow one another, and one process has them in one batch.

    Each bag has as many places as the bag with most images, so that no batch is larger than another: where a view of
    it is missing, those that are there fill its place. An image that names no bag is one by itself. What is balanced
    are bags, by the items of all of their views: an empty bag is one without an item in any view.
    """

    def together(self, dataset: Sequence[dict]) -> int:
        """How many images that follow one another are of one bag: the most views that a bag has.

        Raises:
            UserError: no two images are of the same bag.
        """
        return max(len(views) for views in _bags(dataset))

    def times(self, dataset: Sequence[dict]) -> np.ndarray:
        """How often each bag is in an epoch on average, in the order of their first images."""
        return super().times([_joined([dataset[index] for index in views]) for views in _bags(dataset)])

    def epoch_length(self, dataset: Sequence[dict]) -> int:
        """Images in an epoch, repeated ones counted as often as they are there."""
        return length_of(self.times(dataset)) * self.together(dataset)

    def stream(self, dataset: Sequence[dict], start: int) -> Iterator[tuple[int, int]]:
        """Pairs of (position in the stream, index of the image), from position `start` on."""
        bags = _bags(dataset)
        views = max(map(len, bags))
        bag, view = divmod(start, views)
        for place, index in self.places(self.times(dataset), bag):
            for number in range(view, views):
                yield place * views + number, bags[index][number % len(bags[index])]
            view = 0


def _bags(dataset: Sequence[dict]) -> list[list[int]]:
    """The indices of the images of each bag."""
    bags: dict[object, list[int]] = {}
    for index, record in enumerate(dataset):
        bags.setdefault(record.get(BAG, index), []).append(index)
    if len(bags) == len(dataset):
        raise UserError(
            "the sampler BagEpochs keeps the views of bags together, and no two images of the training set name the "
            "same bag",
            "name bags and views, e.g. by `tools/dataset.py repair --group-by '^(.+)_([^_]+)[.]'`, or take "
            "ShuffledEpochs",
        )
    return list(bags.values())


def _joined(views: Sequence[dict]) -> dict:
    """A bag as what balances takes records: the items of all its views, the mean of their weights, else the first."""
    items = [{key: one[key] for key in ("category_id", "iscrowd")} for view in views for one in view["annotations"]]
    return views[0] | {"annotations": items, WEIGHT: float(np.mean([view.get(WEIGHT, 1.0) for view in views]))}
