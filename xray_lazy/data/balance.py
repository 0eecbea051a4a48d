"""How often training sees images of a kind: rare classes, each data set, empty bags.

A balance takes the records and how often each is in an epoch, shape `(N,)`, and returns how often it should
be there. `ShuffledEpochs` takes a list of them. Crowd regions are no instances here, as in training.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from xray_lazy.data.datasets import WEIGHT
from xray_lazy.errors import UserError


class RepeatFactors:
    """Repeat images with rare classes (Gupta et al., LVIS, CVPR 2019).

    A class in the fraction f of the images has the factor max(1, sqrt(threshold / f)), an image the largest factor
    of its classes. Images without instances are as often there as before; an epoch becomes longer.

    Args:
        threshold: classes in a smaller fraction of the images than this are repeated; LVIS takes 0.001.
    """

    def __init__(self, threshold: float):
        if not 0 <= threshold <= 1:
            raise UserError(f"the threshold of RepeatFactors is {threshold}", "give a share of the images, from 0 to 1")
        self.threshold = threshold

    def __call__(self, dataset: Sequence[dict], times: np.ndarray) -> np.ndarray:
        present = _class_presence(dataset)
        frequency = times @ present / max(times.sum(), 1e-12)
        factors = np.sqrt(self.threshold / np.maximum(frequency, 1e-12)).clip(min=1)
        return times * (present * factors).max(axis=1, initial=1)


class ClassBalance:
    """Each class equally often: as if a class were drawn, then an image that has it.

    Class-aware sampling (Shen et al., Relay Backpropagation, ECCV 2016). An image is drawn for each class that it has:
    where images hold several, common classes are still seen more often. Images without instances, and the length of
    an epoch, stay as they are.
    """

    def __call__(self, dataset: Sequence[dict], times: np.ndarray) -> np.ndarray:
        present = _class_presence(dataset)
        totals = times @ present
        drawn = totals > 0
        if not drawn.any():
            raise UserError("there are no instances whose classes could be balanced", "leave ClassBalance out")
        occupied = present.any(axis=1)
        weights = times * (present[:, drawn] / totals[drawn]).mean(axis=1)
        return np.where(occupied, weights * times[occupied].sum(), times)


class DatasetBalance:
    """Each of the data sets that are loaded together, such as several scanners', equally often or by weight.

    The length of an epoch stays as it is.

    Args:
        weights: by the name of the data set, e.g. `{xray_smith_train: 2, xray_rapiscan_train: 1}`; None takes all for
            equal.
    """

    def __init__(self, weights: Mapping[str, float] | None = None):
        self.weights = weights

    def __call__(self, dataset: Sequence[dict], times: np.ndarray) -> np.ndarray:
        names = np.array([record["dataset_name"] for record in dataset])
        totals = {str(name): times[names == name].sum() for name in dict.fromkeys(names)}
        weights = dict.fromkeys(totals, 1.0) if self.weights is None else dict(self.weights)
        self._check(weights, totals)
        scale = {name: times.sum() * weights[name] / sum(weights.values()) / totals[name] for name in totals}
        return times * np.array([scale[name] for name in names])

    def _check(self, weights: Mapping[str, float], totals: Mapping[str, float]) -> None:
        if set(weights) != set(totals):
            raise UserError(
                f"there are weights for {', '.join(weights) or 'no data set'}; loaded are {', '.join(totals)}",
                "give each of these data sets a weight",
            )
        if min(weights.values()) < 0 or not sum(weights.values()) > 0:
            raise UserError(f"weights of data sets are {weights}", "give numbers of 0 and more, one at least above 0")
        empty = [name for name, total in totals.items() if not total > 0]
        if empty:
            raise UserError(f"the balances before have left no image of {', '.join(empty)}", "change their order")


class ImageWeights:
    """Each image as often as its `weight` in the COCO file says, such as pseudo-labels have; 1 where it has none.

    In expectation that weighs the losses of an image.
    """

    def __call__(self, dataset: Sequence[dict], times: np.ndarray) -> np.ndarray:
        weights = np.array([record.get(WEIGHT, 1.0) for record in dataset])
        wrong = [record for record, one in zip(dataset, weights, strict=True) if not 0 <= one < np.inf]
        if wrong:
            raise UserError(
                f"image {wrong[0]['file_name']} has the weight {wrong[0][WEIGHT]}", "give numbers of 0 and more"
            )
        return times * weights


class EmptyShare:
    """The share of images without instances: images with some are as often there as before, others fill up.

    Args:
        share: in [0, 1); 0 leaves empty bags out.
    """

    def __init__(self, share: float):
        if not 0 <= share < 1:
            raise UserError(f"the share of empty bags is {share}", "give a number in [0, 1)")
        self.share = share

    def __call__(self, dataset: Sequence[dict], times: np.ndarray) -> np.ndarray:
        occupied = _class_presence(dataset).any(axis=1)
        with_instances, without = times[occupied].sum(), times[~occupied].sum()
        if not with_instances > 0:
            raise UserError("all bags are empty, so that these have no share", "leave EmptyShare out")
        if self.share and not without > 0:
            raise UserError(
                f"there are no empty bags, which should be {self.share:.0%} of the stream",
                "set filter_empty=False at the data set, or leave EmptyShare out",
            )
        scale = with_instances * self.share / (1 - self.share) / without if self.share else 0.0
        return np.where(occupied, times, times * scale)


def _class_presence(dataset: Sequence[dict]) -> np.ndarray:
    """Which classes each image has, bool of shape (N, classes)."""
    classes = [{a["category_id"] for a in record["annotations"] if not a["iscrowd"]} for record in dataset]
    present = np.zeros((len(dataset), 1 + max((c for row in classes for c in row), default=-1)), dtype=bool)
    for row, found in zip(present, classes, strict=True):
        row[list(found)] = True
    return present
