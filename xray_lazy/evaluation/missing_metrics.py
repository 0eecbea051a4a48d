"""COCO metrics that data sets can't give a value, and what they lack for it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from xray_lazy.data.datasets import DetectionDataset

# areas in pixels, both ends included, by the last letter of AP and AR of a size
SIZES = {"s": ("small", 0, 32**2), "m": ("medium", 32**2, 96**2), "l": ("large", 96**2, float("inf"))}


def missing_metrics(datasets: Sequence[DetectionDataset], names: Iterable[str]) -> dict[str, str]:
    """What is missing for each of the metrics that have no value in any evaluation.

    Args:
        datasets: one or, for the mean over them, several: it needs a value of each that has items.
        names: such as `bbox/AP`, `bbox/APs`, `segm/AP-knife`; `bbox` and `segm` only.
    """
    lacks = [_Items(dataset) for dataset in datasets]
    needed = [one for one, dataset in zip(lacks, datasets, strict=True) if any(dataset.trained_boxes)] or lacks[:1]
    reasons = {name: next(filter(None, (one.lack(name) for one in needed)), "") for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


class _Items:
    """How many items of each class and size a set has; crowd regions are none."""

    def __init__(self, dataset: DetectionDataset):
        self.dataset = dataset
        self.by_class: Counter[str] = Counter()
        self.by_size: Counter[str] = Counter()
        for record in dataset:
            for one in record["annotations"]:
                if not one.get("iscrowd"):
                    self.by_class[dataset.class_names[one["category_id"]]] += 1
                    area = one.get("area")
                    self.by_size.update(
                        letter for letter, (_, low, high) in SIZES.items() if area is None or low <= area <= high
                    )

    def lack(self, name: str) -> str:
        """Why there is no such metric; empty where there is."""
        task, _, figure = name.partition("/")
        what = ""
        if not self.by_class:
            what = "annotated item"
        elif task == "segm" and not self.dataset.has_masks:
            what = "mask"
        elif figure.startswith("AP-"):
            what = "" if self.by_class[figure[3:]] else figure[3:]
        elif figure[2:] in SIZES:
            what = "" if self.by_size[figure[2:]] else f"{SIZES[figure[2:]][0]} item"
        return f"{self.dataset.name} has no {what}" if what else ""
