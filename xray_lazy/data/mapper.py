"""From a dataset dict to what a detectron2 model takes: read, augment, build the instances."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances

from xray_lazy.config.plain_lists import make_lists_plain
from xray_lazy.data.augmentation.mixing import Mixing, OtherRecords, Scene
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.image_reader import ImageReader, Reader, read_record
from xray_lazy.data.image_transforms import ImageInput, PlainInput, as_planes, moved_boxes
from xray_lazy.data.masks.mask_rasters import MaskRasters
from xray_lazy.data.masks.placed_masks import PlacedMasks
from xray_lazy.data.picture_cache import CachedInput, PictureCache, chosen_by_size
from xray_lazy.errors import RunFailure, UserError

# detectron2's: boxes that are not wider and higher than this are empty
SMALLEST_EXTENT = 1e-5


def map_record(mapper: Callable[[dict], dict], record: dict) -> dict:
    """`mapper(record)`, whose errors name the image.

    Raises:
        UserError: of the mapper.
        RunFailure: any other error of the mapper.
    """
    name = str(record.get("file_name", "without a name"))
    try:
        return mapper(record)
    except UserError as error:
        if name not in error.message:
            error.message = f"image {name}: {error.message}"
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise RunFailure(
            f"image {name} can't be prepared for the network: {type(error).__name__}: {reason}",
            "look at the image, its annotations and the augmentations; with dataloader.train.num_workers=0 "
            "dataloader.test.num_workers=0 --debug shows where it happened",
        ) from error


def give_dataset(mapper: Callable[[dict], dict], dataset: DetectionDataset) -> None:
    """Give a mapper the data set that its images come from, where it asks for that with `mix_from`."""
    if hasattr(mapper, "mix_from"):
        mapper.mix_from(dataset)


class DetectionMapper:
    """Read an image and its instances, and apply the same geometry to both.

    Args:
        augmentations: detectron2 augmentations, applied in order.
        is_train: add `instances` to the result; crowd regions are left out of them.
        with_masks: give instances bit masks; those without a mask are then left out. Off for box-only sets.
        image_format: order of the channels that the model was trained with, "BGR" or "RGB".
        recompute_boxes: take boxes anew from the masks, which a crop may have left a smaller part of than of their box.
        plain: let every transform do its own work and draw masks as whole images, as detectron2's mapper does, which
            takes longer. Boxes and masks are the same, and pixels differ by rounding where an image is resized.
        cache: of decoded and resized images; it changes none of their pixels. The plain path makes no use of it.
        reader: how files are read; None for 8-bit colours.
        mixing: what puts other images or items in, in order and before `augmentations`; see
            `xray_lazy.data.augmentation.mixing`. For training alone, whose loader gives it the data set.

    Returns of a call: the dict without `annotations`, with `image` `(channels, H, W)` and, in training, `instances`
    (`gt_boxes` xyxy pixels, `gt_classes`, `gt_masks`). `height` and `width` stay those of the file.
    """

    def __init__(
        self,
        augmentations: Sequence[T.Augmentation],
        is_train: bool = True,
        with_masks: bool = True,
        image_format: str = "BGR",
        recompute_boxes: bool = False,
        plain: bool = False,
        cache: PictureCache | None = None,
        mixing: Sequence[Mixing] | None = (),
        reader: Reader | None = None,
    ):
        mixing = tuple(mixing or ())
        for part in mixing:
            if not callable(part):
                raise UserError(f"{part!r} in the mapper's mixing mixes nothing", "name parts with a `_target_`")
        if reader and reader.fingerprint():
            _check_no_colours(augmentations, mixing, reader.channels, "train" if is_train else "test")
        self.augmentations = T.AugmentationList(list(augmentations))
        for part in (*self.augmentations.augs, *mixing):
            make_lists_plain(part)
        self.is_train = is_train
        self.with_masks = with_masks
        self.image_format = image_format
        self.recompute_boxes = recompute_boxes and with_masks
        self.plain = plain
        self.cache = cache or PictureCache()
        self.reader = reader or ImageReader()
        self.mixing = mixing
        self._others: OtherRecords | None = None

    def mix_from(self, dataset: DetectionDataset) -> None:
        """Let `mixing` draw from the records of this data set."""
        if self.mixing:
            counts = dataset.trained_boxes
            self._others = OtherRecords(dataset, dataset.class_names, counts, self._whole_image, self.image_format)

    def __call__(self, record: dict) -> dict:
        """Raises: UnreadableImage; UserError where the file has another size than the data set says."""
        sample = {key: value for key, value in record.items() if key != "annotations"}
        if self.mixing:
            scene, unreadable = self._mixed(record)
            usable, source_size = self._usable(scene.annotations), scene.size
            augmented = self._read_input(scene.image, record, usable)
            if unreadable:
                sample["unreadable"] = unreadable
        else:
            usable = self._usable(record["annotations"]) if self.is_train else []
            source_size = record["height"], record["width"]
            augmented = self._input(record, usable)
        transforms = self.augmentations(augmented)
        sample["image"] = as_planes(augmented.image)
        if self.is_train:
            instances = self._plain_instances if self.plain else self._instances
            sample["instances"] = instances(usable, transforms, source_size, augmented.image.shape[:2])
        return sample

    def _mixed(self, record: dict) -> tuple[Scene, list[str]]:
        """The scene after all parts of `mixing`, and which images could not be read for it."""
        if self._others is None:
            raise UserError(
                "mixing draws from the training set, and only its loader hands that over",
                "name the parts in dataloader.train.mapper.mixing and nowhere else",
            )
        # a function of what the loader seeds numpy's global state with: seed and place
        random = np.random.default_rng(np.random.randint(2**32, size=4, dtype=np.uint32))
        image = np.ascontiguousarray(self._whole_image(record))
        scene = Scene(image, list(record["annotations"]), self.image_format)
        self._others.take_unreadable()  # of an image whose mixing ended with an error
        for part in self.mixing:
            scene = part(scene, random, self._others)
        return scene, self._others.take_unreadable()

    def _whole_image(self, record: dict) -> np.ndarray:
        if self.plain or not self.cache:
            return read_record(record, self.image_format, self.reader)
        whole = record["height"], record["width"]
        return self.cache.image(record, self.image_format, whole, [whole], self.reader)

    def _input(self, record: dict, usable: list[dict]) -> PlainInput:
        first = self.augmentations.augs[0] if self.augmentations.augs else None
        if self.cache and not self.plain and chosen_by_size(first):
            return CachedInput(self.cache, record, self.image_format, first, usable, self.reader)
        return self._read_input(self._whole_image(record), record, usable)

    def _read_input(self, image: np.ndarray, record: dict, usable: list[dict]) -> PlainInput:
        return (PlainInput if self.plain else ImageInput)(image, usable, str(record["file_name"]))

    def _usable(self, annotations: list[dict]) -> list[dict]:
        """Those that can be trained on."""
        return [a for a in annotations if not a["iscrowd"] and (not self.with_masks or "segmentation" in a)]

    def _instances(
        self, annotations: list[dict], transforms: T.TransformList, source_size: tuple[int, int], size: tuple[int, int]
    ) -> Instances:
        boxes = moved_boxes(annotations, transforms, size)
        windows = []
        if self.with_masks:
            rasters = MaskRasters(transforms, source_size, size)
            windows = [rasters.draw(annotation["segmentation"]) for annotation in annotations]
            if self.recompute_boxes:
                boxes = np.array([window.box() for window in windows], np.float32).reshape(-1, 4)
        there = ((boxes[:, 2:] - boxes[:, :2]) > SMALLEST_EXTENT).all(1)
        kept = [i for i in np.flatnonzero(there) if not self.with_masks or windows[i].bits.any()]
        instances = Instances(size)
        instances.gt_boxes = Boxes(boxes[kept])
        instances.gt_classes = torch.tensor([int(annotations[i]["category_id"]) for i in kept], dtype=torch.int64)
        if self.with_masks:
            instances.gt_masks = PlacedMasks.place([windows[i] for i in kept], size)
        return instances

    def _plain_instances(
        self, annotations: list[dict], transforms: T.TransformList, source_size: tuple[int, int], size: tuple[int, int]
    ) -> Instances:
        if not annotations:
            return self._instances([], transforms, source_size, size)
        # the transform writes into the annotation it is given, which belongs to the data set
        moved = [detection_utils.transform_instance_annotations(self._copy(a), transforms, size) for a in annotations]
        instances = detection_utils.annotations_to_instances(moved, size, mask_format="bitmask")
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return detection_utils.filter_empty_instances(instances)

    def _copy(self, annotation: dict) -> dict:
        copy = {key: value for key, value in annotation.items() if key != "segmentation"}
        if self.with_masks:
            segmentation = annotation["segmentation"]
            # in place, detectron2 would cut the fractions off transformed corners that the JSON has as whole numbers
            is_polygons = isinstance(segmentation, list)
            copy["segmentation"] = [np.array(p, np.float64) for p in segmentation] if is_polygons else segmentation
        return copy


def _check_no_colours(augmentations: Sequence[Any], mixing: Sequence[Mixing], channels: int, loader: str) -> None:
    """Refuse all parts for 8-bit colours at once, with the overrides that leave them out."""
    found = {place: name for place, part in enumerate(augmentations) if (name := _of_colours([part], channels))}
    if not found and not mixing:
        return
    mapper = f"dataloader.{loader}.mapper"
    # the last one first, as the places of those behind one that is taken out change
    leave_out = [f"'~{mapper}.augmentations.{place}'" for place in reversed(found)]
    if mixing:
        leave_out.append(f"{mapper}.mixing='[]'")
    names = [*found.values(), *(type(part).__name__ for part in mixing)]
    raise UserError(
        f"with dataloader.reader.window images aren't of the 8-bit colours that {', '.join(names)} works on",
        f"leave it out by {' '.join(leave_out)}, or set dataloader.reader.window=null",
    )


def _of_colours(augmentations: Iterable[Any], channels: int) -> str | None:
    """The name of one that can't work on images of other than 8-bit colours; also of one inside of another."""
    for part in augmentations:
        needs_three = isinstance(part, T.RandomSaturation | T.RandomLighting) and channels != 3
        if needs_three or getattr(part, "needs_colours", False):
            return type(part).__name__
        inner = [getattr(part, "aug", None), *getattr(part, "augs", ())]
        if found := _of_colours(filter(None, inner), channels):
            return found
    return None
