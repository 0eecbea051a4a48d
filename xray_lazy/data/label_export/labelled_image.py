"""What the writers of all formats are given: images with their instances, and how to tell what a format can't hold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from xray_lazy.data.convert.label import Instance

IMAGE_FOLDER = "images"  # below an export, of formats that name none themselves


@dataclass(frozen=True)
class LabelledImage:
    """An image and its instances.

    Attributes:
        name: below the folder of the images, with `/`.
        size: (width, height) in pixels.
        instances: in pixels.
    """

    name: str
    size: tuple[int, int]
    instances: Sequence[Instance]

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name)


@dataclass(frozen=True)
class Labels:
    """A set that is to be written.

    Attributes:
        images: all of them, also empty ones.
        classes: names in order.
        are_predictions: whether a model made them, so that people are to correct them.
        lost: what the format can't hold: how many, by what in one and in several.
        image_places: where an image is seen from the file of its label, by its name.
    """

    images: Sequence[LabelledImage]
    classes: Sequence[str]
    are_predictions: bool
    image_places: dict[str, str] = field(default_factory=dict)
    lost: Counter = field(default_factory=Counter)

    def kept(self, image: LabelledImage) -> list[Instance]:
        """The instances of an image for a format without crowd regions."""
        crowds = sum(instance.is_crowd for instance in image.instances)
        if crowds:
            self.lost["crowd region", "crowd regions"] += crowds
        return [instance for instance in image.instances if not instance.is_crowd]

    def lose_scores(self) -> None:
        """Note that the format has none."""
        scored = sum(instance.score is not None for image in self.images for instance in image.instances)
        if scored:
            self.lost["score", "scores"] += scored


def box_of(instance: Instance) -> list[float]:
    """[x, y, width, height]."""
    from xray_lazy.data.check.masks import mask_box

    return instance.box or mask_box(instance.mask or [])


def bitmap_of(mask: list | dict, size: tuple[int, int]):
    """The mask (height, width) of 0 and 1 in an image of this (width, height)."""
    from pycocotools import mask as coco_mask

    from xray_lazy.data.masks.run_lengths import compressed, encode_polygons

    width, height = size
    return coco_mask.decode(compressed(mask) if isinstance(mask, dict) else encode_polygons(mask, height, width))


def number(value: float) -> str:
    """Of pixels, with the three decimals that are read back."""
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"
