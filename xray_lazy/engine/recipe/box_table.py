"""The boxes of a data set as arrays, for what follows from their sizes and numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.structures import BoxMode


@dataclass(frozen=True)
class BoxTable:
    """The instances that are no crowd regions, as far as they lie in their image.

    Attributes:
        boxes: `(n, 4)`, x and y of the corner, width and height, in the file's pixels.
        classes: `(n,)`.
        owners: `(n,)`, the image's place in the set.
        image_sizes: `(images, 2)`, width and height.
        set_names: of the sets that are loaded together, for each image.
    """

    boxes: np.ndarray
    classes: np.ndarray
    owners: np.ndarray
    image_sizes: np.ndarray
    set_names: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Sequence[dict]) -> "BoxTable":
        """The table of detectron2's dataset dicts; no image is read."""
        rows = []
        for place, record in enumerate(dataset):
            for annotation in record["annotations"]:
                if annotation["iscrowd"]:
                    continue
                box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
                edges = np.clip(box, 0, np.tile([record["width"], record["height"]], 2))
                if (edges[2:] > edges[:2]).all():
                    rows.append((*edges[:2], *(edges[2:] - edges[:2]), annotation["category_id"], place))
        table = np.array(rows, np.float64).reshape(-1, 6)
        sizes = np.array([(record["width"], record["height"]) for record in dataset], np.float64).reshape(-1, 2)
        names = tuple(record["dataset_name"] for record in dataset)
        return cls(table[:, :4], table[:, 4].astype(int), table[:, 5].astype(int), sizes, names)

    def resized(self, short_edge: float, longest_edge: float) -> np.ndarray:
        """The boxes in images of this shorter edge, whose longer edge is `longest_edge` at most; `(n, 4)`."""
        scales = np.minimum(short_edge / self.image_sizes.min(1), longest_edge / self.image_sizes.max(1))
        return self.boxes * scales[self.owners, None]

    def per_image(self) -> np.ndarray:
        """Boxes of each image, `(images,)`."""
        return np.bincount(self.owners, minlength=len(self.image_sizes))

    def frequencies(self, classes: int) -> np.ndarray:
        """The share of the images that show each class, `(classes,)`."""
        shown = np.unique(np.stack([self.owners, self.classes]), axis=1)[1]
        return np.bincount(shown, minlength=classes) / len(self.image_sizes)

    def common_sizes(self, count: int = 3) -> str:
        """The most frequent sizes of images with their shares: `1920x1080 (70 %), 1680x1050 (30 %)`."""
        counted = Counter((int(width), int(height)) for width, height in self.image_sizes)
        total = len(self.image_sizes)
        shown = [f"{w}x{h} ({number / total:.0%})" for (w, h), number in counted.most_common(count)]
        rest = f" and {len(counted) - count} more" if len(counted) > count else ""
        return ", ".join(shown) + rest
