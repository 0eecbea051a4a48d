"""From a dataset dict to what a detectron2 model takes: read, augment, build the instances."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

from xray_lazy.config.plain_lists import make_lists_plain
from xray_lazy.data.image_file import read_record
from xray_lazy.data.image_transforms import ImageInput, PlainInput, as_planes
from xray_lazy.data.mask_rasters import MaskRasters
from xray_lazy.data.picture_cache import CachedInput, PictureCache, chosen_by_size
from xray_lazy.data.placed_masks import PlacedMasks
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

    Returns of a call: the dict without `annotations`, with `image` `(3, H, W)` uint8 and, in training, `instances`
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
    ):
        self.augmentations = T.AugmentationList(list(augmentations))
        for augmentation in self.augmentations.augs:
            make_lists_plain(augmentation)
        self.is_train = is_train
        self.with_masks = with_masks
        self.image_format = image_format
        self.recompute_boxes = recompute_boxes and with_masks
        self.plain = plain
        self.cache = cache or PictureCache()

    def __call__(self, record: dict) -> dict:
        """Raises: UnreadableImage; UserError where the file has another size than the data set says."""
        augmented = self._input(record)
        transforms = self.augmentations(augmented)
        sample = {key: value for key, value in record.items() if key != "annotations"}
        sample["image"] = as_planes(augmented.image)
        if self.is_train:
            usable = [a for a in record["annotations"] if self._is_usable(a)]
            instances = self._plain_instances if self.plain else self._instances
            source_size = record["height"], record["width"]
            sample["instances"] = instances(usable, transforms, source_size, augmented.image.shape[:2])
        return sample

    def _input(self, record: dict) -> T.AugInput:
        if self.plain:
            return PlainInput(read_record(record, self.image_format))
        if not self.cache:
            return ImageInput(read_record(record, self.image_format))
        first = self.augmentations.augs[0] if self.augmentations.augs else None
        if chosen_by_size(first):
            return CachedInput(self.cache, record, self.image_format, first)
        whole = record["height"], record["width"]
        return ImageInput(self.cache.image(record, self.image_format, whole, [whole]))

    def _is_usable(self, annotation: dict) -> bool:
        return not annotation["iscrowd"] and (not self.with_masks or "segmentation" in annotation)

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


def moved_boxes(annotations: list[dict], transforms: T.TransformList, size: tuple[int, int]) -> np.ndarray:
    """Boxes after `transforms`, clipped to an image of `size` (height, width): (N, 4) float32, xyxy pixels."""
    if not annotations:
        return np.zeros((0, 4), np.float32)
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64)
    modes = np.array([annotation["bbox_mode"] for annotation in annotations])
    for mode in set(modes.tolist()):
        boxes[modes == mode] = BoxMode.convert(boxes[modes == mode], BoxMode(mode), BoxMode.XYXY_ABS)
    height, width = size
    return transforms.apply_box(boxes).clip(0, [width, height, width, height]).astype(np.float32)
