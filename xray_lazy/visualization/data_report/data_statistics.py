"""What is in data sets, in numbers: classes, sizes, shapes, items per image, and where in the image they lie."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.wanted_sets import scanner_and_split
from xray_lazy.utils.atomic_file import write_json, write_text
from xray_lazy.utils.wording import printable
from xray_lazy.visualization.image_choice import NAMED_SIZES

POSITION_ROWS, POSITION_COLUMNS = 36, 54


@dataclass(frozen=True)
class SetStatistics:
    """One data set; `n` items that are no crowd regions, in `images` images.

    Attributes:
        classes: `(n,)`, index into `class_names`.
        sides: `(n,)`, of a square of the item's area, pixels.
        aspects: `(n,)`, width by height of the box.
        owners: `(n,)`, the image's place in the set.
        boxes_over: `(classes, rows, columns)`, how many items' boxes are there, from the image's corner to corner.
        image_sizes: how many images have which (width, height).
    """

    name: str
    scanner: str
    split: str
    class_names: tuple[str, ...]
    images: int
    crowds: int
    classes: np.ndarray
    sides: np.ndarray
    aspects: np.ndarray
    owners: np.ndarray
    boxes_over: np.ndarray
    image_sizes: dict[tuple[int, int], int]

    @property
    def instances(self) -> int:
        return len(self.classes)

    @property
    def per_image(self) -> np.ndarray:
        """Items of each image, `(images,)`."""
        return np.bincount(self.owners, minlength=self.images)

    @property
    def class_counts(self) -> np.ndarray:
        """Items of each class, `(classes,)`."""
        return np.bincount(self.classes, minlength=len(self.class_names))

    @property
    def positions(self) -> np.ndarray:
        """The share of the items whose box is there, `(rows, columns)`."""
        return self.boxes_over.sum(0) / max(1, self.instances)

    def class_positions(self, index: int) -> np.ndarray:
        """As `positions`, of the items of one class."""
        return self.boxes_over[index] / max(1, self.class_counts[index])

    @property
    def size_shares(self) -> dict[str, float]:
        """The share of the items that are small, medium and large by COCO's limits."""
        return {name: _share((self.sides >= low) & (self.sides < high)) for name, (low, high) in NAMED_SIZES.items()}


def statistics_of(dataset: DetectionDataset) -> SetStatistics:
    """Count a data set; no image is read."""
    corners = np.zeros((len(dataset.class_names), POSITION_ROWS + 1, POSITION_COLUMNS + 1))
    rows, crowds = [], 0
    for place, record in enumerate(dataset):
        for annotation in record["annotations"]:
            if annotation["iscrowd"]:
                crowds += 1
                continue
            _, _, width, height = annotation["bbox"]
            rows.append((annotation["category_id"], annotation["area"] ** 0.5, width / height, place))
            relative = np.array(annotation["bbox"]) / np.tile([record["width"], record["height"]], 2)
            _add_box(corners[annotation["category_id"]], *relative)
    classes, sides, aspects, owners = np.array(rows, dtype=float).reshape(-1, 4).T
    return SetStatistics(
        printable(dataset.name),
        *scanner_and_split(dataset.name),
        tuple(map(printable, dataset.class_names)),
        len(dataset),
        crowds,
        classes.astype(int),
        sides,
        aspects,
        owners.astype(int),
        corners.cumsum(1).cumsum(2)[:, :-1, :-1],
        dict(Counter((record["width"], record["height"]) for record in dataset).most_common()),
    )


def save_statistics(sets: Sequence[SetStatistics], folder: str | os.PathLike) -> list[Path]:
    """Write `statistics.json` and `classes.csv`."""
    folder = Path(folder)
    write_json(folder / "statistics.json", [summary(one) for one in sets], indent=2)
    table = io.StringIO()
    writer = csv.DictWriter(
        table, fieldnames=["set", "scanner", "split", *class_summary(sets[0], 0)], lineterminator="\n"
    )
    writer.writeheader()
    for one in sets:
        known = {"set": one.name, "scanner": one.scanner, "split": one.split}
        writer.writerows(known | class_summary(one, index) for index in range(len(one.class_names)))
    write_text(folder / "classes.csv", table.getvalue())
    return [folder / "statistics.json", folder / "classes.csv"]


def summary(one: SetStatistics) -> dict:
    """The numbers of a set as plain values; sizes in pixels."""
    return {
        "name": one.name,
        "scanner": one.scanner,
        "split": one.split,
        "pictures": one.images,
        "pictures_without_items": int((one.per_image == 0).sum()),
        "items": one.instances,
        "crowd_regions": one.crowds,
        "items_per_picture": _spread(one.per_image),
        "side": _spread(one.sides),
        "aspect": _spread(one.aspects),
        "size_shares": {name: round(share, 4) for name, share in one.size_shares.items()},
        "picture_sizes": {f"{width}x{height}": count for (width, height), count in one.image_sizes.items()},
        "classes": [class_summary(one, index) for index in range(len(one.class_names))],
        "positions": one.positions.round(4).tolist(),
    }


def class_summary(one: SetStatistics, index: int) -> dict:
    """The numbers of one class of a set."""
    of_class = one.classes == index
    sides = one.sides[of_class]
    sizes = {name: int(((sides >= low) & (sides < high)).sum()) for name, (low, high) in NAMED_SIZES.items()}
    return {
        "class": one.class_names[index],
        "items": int(of_class.sum()),
        "pictures": len(np.unique(one.owners[of_class])),
        **sizes,
        "median_side": round(float(np.median(sides)), 1) if len(sides) else None,
        "median_aspect": round(float(np.median(one.aspects[of_class])), 2) if len(sides) else None,
    }


def _add_box(corners: np.ndarray, x: float, y: float, width: float, height: float) -> None:
    """Add a box to a table of which the sums over rows and columns count the boxes over each cell."""
    left, right = (min(max(round(edge * POSITION_COLUMNS), 0), POSITION_COLUMNS) for edge in (x, x + width))
    top, bottom = (min(max(round(edge * POSITION_ROWS), 0), POSITION_ROWS) for edge in (y, y + height))
    # a box that is thinner than a cell still counts in one
    right = min(max(right, left + 1), POSITION_COLUMNS)
    bottom = min(max(bottom, top + 1), POSITION_ROWS)
    corners[top, left] += 1
    corners[bottom, right] += 1
    corners[top, right] -= 1
    corners[bottom, left] -= 1


def _spread(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    low, median, high = np.percentile(values, (5, 50, 95))
    spread = {"mean": values.mean(), "p5": low, "median": median, "p95": high, "min": values.min(), "max": values.max()}
    return {name: round(float(value), 3) for name, value in spread.items()}


def _share(selected: np.ndarray) -> float:
    return float(selected.mean()) if len(selected) else 0.0
