"""From a dataset dict to what a detectron2 model takes: read, augment, build the instances."""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances

from xray_lazy.data.picture_file import read_picture
from xray_lazy.errors import UserError


class DetectionMapper:
    """Read a picture and its instances, and apply the same geometry to both.

    Args:
        augmentations: detectron2 augmentations, applied in order.
        is_train: add `instances` to the result; crowd regions are left out of them.
        with_masks: give instances bit masks; those without a mask are then left out. Off for box-only sets.
        image_format: order of the channels that the model was trained with, "BGR" or "RGB".
        recompute_boxes: take boxes anew from the masks, which a crop may have left a smaller part of than of their box.

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
    ):
        self.augmentations = T.AugmentationList(list(augmentations))
        self.is_train = is_train
        self.with_masks = with_masks
        self.image_format = image_format
        self.recompute_boxes = recompute_boxes and with_masks

    def __call__(self, record: dict) -> dict:
        """Raises: UnreadablePicture; UserError where the file has another size than the data set says."""
        picture = read_picture(record["file_name"])
        if picture.shape[:2] != (record["height"], record["width"]):
            raise UserError(
                f"{record['file_name']} is {picture.shape[1]}x{picture.shape[0]}, "
                f"its data set says {record['width']}x{record['height']}",
                "`tools/dataset.py repair` takes the sizes from the files",
            )
        if self.image_format == "RGB":
            picture = picture[:, :, ::-1]
        augmented = T.AugInput(np.ascontiguousarray(picture))
        transforms = self.augmentations(augmented)
        sample = {key: value for key, value in record.items() if key != "annotations"}
        sample["image"] = torch.from_numpy(np.ascontiguousarray(augmented.image.transpose(2, 0, 1)))
        if self.is_train:
            sample["instances"] = self._instances(record["annotations"], transforms, augmented.image.shape[:2])
        return sample

    def _instances(self, annotations: list[dict], transforms: T.TransformList, size: tuple[int, int]) -> Instances:
        usable = [a for a in annotations if not a["iscrowd"] and (not self.with_masks or "segmentation" in a)]
        # the transform writes into the annotation it is given, which belongs to the data set
        moved = [detection_utils.transform_instance_annotations(self._copy(a), transforms, size) for a in usable]
        if not moved:
            return self._no_instances(size)
        instances = detection_utils.annotations_to_instances(moved, size, mask_format="bitmask")
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return detection_utils.filter_empty_instances(instances)

    def _copy(self, annotation: dict) -> dict:
        return {key: value for key, value in annotation.items() if key != "segmentation" or self.with_masks}

    def _no_instances(self, size: tuple[int, int]) -> Instances:
        from detectron2.structures import BitMasks

        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.zeros(0, 4))
        instances.gt_classes = torch.zeros(0, dtype=torch.int64)
        if self.with_masks:
            instances.gt_masks = BitMasks(torch.zeros(0, *size, dtype=torch.bool))
        return instances
