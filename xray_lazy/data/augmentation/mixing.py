"""What mixes items and other images into one: parts of `dataloader.train.mapper.mixing`, annotations included."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from detectron2.structures import BoxMode

from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.data.masks.mask_rasters import MaskWindow
from xray_lazy.data.masks.run_lengths import compressed
from xray_lazy.data.memory.packed_records import packed
from xray_lazy.errors import UserError

# After this many unreadable draws in a row, the trouble is not a broken file.
ATTEMPTS = 10


@dataclass
class Scene:
    """An image in the pixels of its file, and what is annotated in it.

    image: (height, width, 3) uint8, contiguous and this scene's own: parts may write into it.
    annotations: as detectron2's dataset dicts have them, in pixels of `image`: `bbox` with its `bbox_mode`,
        `category_id` (index of the class), `iscrowd` and, but in sets of boxes alone, `segmentation` (polygons, or
        COCO's compressed RLE of the image's size). The dicts may be shared: parts put new ones into a new list.
        Crowd regions are among them.
    image_format: order of the channels, "BGR" or "RGB".
    """

    image: np.ndarray
    annotations: list[dict]
    image_format: str = "BGR"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.image.shape[0], self.image.shape[1]


class Mixing(Protocol):
    """A part of `dataloader.train.mapper.mixing`; any callable of this form is one.

    It gets the scene as the file has it, or as the part before left it, and returns one, which may be of another size.
    `augmentations` come after. All its draws come from `random`, which is seeded by `train.seed` and the image's place
    in training alone, so that neither workers nor a resume change them; it keeps nothing between its calls that changes
    what it returns.
    """

    def __call__(self, scene: Scene, random: np.random.Generator, others: "OtherRecords") -> Scene: ...


@runtime_checkable
class BringsItems(Protocol):
    """A part that has items of its own, so that classes of which the set has no instance are learned."""

    def brought_classes(self, into_empty: bool, into_occupied: bool) -> set[str]:
        """Their names, as the set has them, which has bags without items (`into_empty`) or with some."""
        ...


@dataclass
class OtherRecords:
    """The training set, for parts that need more of it than one image.

    Args:
        records: the dataset dicts, of which any may be drawn, also the one that is being mapped.
        class_names: by index of the class.
        instance_counts: annotated ones of each class, crowd regions left out.
        read: the image of a dataset dict, as the mapper reads it.
        image_format: that `read` gives.

    Attributes:
        unreadable: why images could not be read since the mapper asked last; it hands this to the loader, which counts.
    """

    records: Sequence[dict]
    class_names: Sequence[str]
    instance_counts: Sequence[int]
    read: Callable[[dict], np.ndarray]
    image_format: str = "BGR"
    unreadable: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.records = packed(self.records)

    def draw(self, random: np.random.Generator, wanted: Callable[[dict], bool] = lambda record: True) -> Scene | None:
        """One of the records, each equally often, as a scene of its own size.

        Args:
            random: of the part that asks.
            wanted: which records will do, e.g. bags without items. None is returned where some draws found none:
                so it costs little, and what is rare in the set is rare here.

        Raises:
            UserError: none of them can be read.
        """
        problems = []
        for _ in range(ATTEMPTS):
            record = self.records[int(random.integers(len(self.records)))]
            if not wanted(record):
                continue
            try:
                image = np.ascontiguousarray(self.read(record))
            except UnreadableImage as error:
                problems.append(error.message)
                continue
            self.unreadable += problems
            return Scene(image, record["annotations"], self.image_format)
        if len(problems) == ATTEMPTS:
            raise UserError(
                f"{ATTEMPTS} images that were to be mixed in could not be read, e.g. {problems[0]}",
                "find them with `tools/dataset.py check`",
            )
        self.unreadable += problems
        return None

    def take_unreadable(self) -> list[str]:
        """The problems since the last call."""
        problems, self.unreadable = self.unreadable, []
        return problems


def new_annotation(mask: MaskWindow, size: tuple[int, int], category_id: int) -> dict:
    """An annotation of a mask in an image of `size` (height, width): its tight box, its area and its RLE.

    The mask has at least one pixel and lies wholly in the image.
    """
    left, top, right, bottom = (float(value) for value in mask.box())
    return {
        "bbox": [left, top, right - left, bottom - top],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": category_id,
        "iscrowd": 0,
        "area": float(np.count_nonzero(mask.bits)),
        "segmentation": encode_window(mask, size),
    }


def encode_window(mask: MaskWindow, size: tuple[int, int]) -> dict:
    """COCO's compressed RLE of a mask in an image of `size` (height, width), whose other pixels are not looked at."""
    height, width = size
    # along the columns, with nothing above and below: where runs begin and end
    rows = mask.bits.shape[0] + 2
    columns = np.zeros((mask.bits.shape[1], rows), bool)
    columns[:, 1:-1] = cv2.transpose(np.ascontiguousarray(mask.bits, np.uint8))
    flat = columns.ravel()
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows)
    # a run to the lower edge may go on at the upper edge: a run of no 0 lies between, which COCO allows
    edges = (mask.left + column) * height + mask.top + row
    counts = np.diff(edges, prepend=0, append=height * width)
    return compressed({"size": [height, width], "counts": counts.tolist()})
