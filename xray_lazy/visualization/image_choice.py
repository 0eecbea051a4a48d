"""Which images of data sets are looked at: by id, by name, by what is in them, and at random."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import numpy as np

from xray_lazy.config.suggest import did_you_mean, nearest
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.errors import UserError

# COCO's: the side in pixels of a square of the same area.
NAMED_SIZES = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, float("inf"))}

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Choice:
    """What an image, and an item in it, must be to be shown; what is empty asks for nothing.

    Attributes:
        ids: of images, as their JSON has them.
        names: of files, or patterns such as `bag_1*`.
        classes: that an item is of.
        size: from and up to which side of a square of its area an item is, pixels.
    """

    ids: Collection[str] = ()
    names: Collection[str] = ()
    classes: Collection[str] = ()
    size: tuple[float, float] | None = None

    def takes_image(self, image_id: object, file_name: str) -> bool:
        """Whether the image itself is wanted, whatever is in it."""
        name = Path(file_name).name
        by_name = not self.names or any(
            fnmatch(text, pattern) for pattern in self.names for text in (name, Path(name).stem)
        )
        return by_name and (not self.ids or str(image_id) in self.ids)

    def takes_item(self, class_name: str, area: float) -> bool:
        """Whether an item of `area` square pixels is wanted."""
        low, high = self.size or (0.0, float("inf"))
        return (not self.classes or class_name in self.classes) and low <= area**0.5 < high

    @property
    def asks_for_items(self) -> bool:
        """Whether an image without items can't be wanted."""
        return bool(self.classes) or self.size is not None


def choose_records(dataset: DetectionDataset, choice: Choice) -> list[dict]:
    """The images that are wanted, and that have a wanted item where items are asked for, in the set's order."""
    return [
        record
        for record in dataset
        if choice.takes_image(record["image_id"], record["file_name"])
        and (not choice.asks_for_items or any(wanted_items(record, dataset.class_names, choice)))
    ]


def wanted_items(record: Mapping, class_names: Sequence[str], choice: Choice) -> list[bool]:
    """For each annotation of a dataset dict, whether it is wanted."""
    return [choice.takes_item(class_names[a["category_id"]], a["area"]) for a in record["annotations"]]


def check_classes(choice: Choice, class_names: Iterable[str]) -> None:
    """Raises: UserError: a class is asked for that is not among `class_names`."""
    known = list(class_names)
    unknown = [name for name in choice.classes if name not in known]
    if unknown:
        near = [name for one in unknown for name in nearest(one, known)]
        fix = f"{did_you_mean(list(dict.fromkeys(near)))} there are {', '.join(known)}".lstrip()
        raise UserError(f"there is no class {', '.join(unknown)}", fix)


def draw_at_random(entries: Sequence[Entry], count: int, seed: int) -> list[Entry]:
    """`count` entries, chosen by `seed`, in their order; all where there are no more."""
    if count >= len(entries):
        return list(entries)
    places = np.random.default_rng(seed).permutation(len(entries))[:count]
    return [entries[place] for place in sorted(places)]


def parse_size_range(text: str) -> tuple[float, float]:
    """Sides in pixels from `small`, `medium`, `large`, `16-48`, `-20` or `200-`.

    Raises:
        UserError: it is written otherwise, or holds nothing.
    """
    if text in NAMED_SIZES:
        return NAMED_SIZES[text]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)?-(\d+(?:\.\d+)?)?", text)
    low, high = (float(match[1] or 0), float(match[2] or "inf")) if match else (0.0, 0.0)
    if not match or text == "-" or low >= high:
        raise UserError(f"{text!r} is no range of sizes", "write small, medium, large, or pixels: 16-48, 200-")
    return low, high
