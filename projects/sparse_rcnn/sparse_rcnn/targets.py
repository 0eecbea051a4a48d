"""The objects of a batch, in one row for all images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks

from xray_lazy.modeling.batch_counts import mean_count


@dataclass
class Targets:
    """Objects of a batch of `B` images, `T` in all.

    Attributes:
        classes: `(T,)`.
        boxes: `(T, 4)`, xyxy pixels, float32.
        counts: objects of each image.
        scales: `(B, 4)`, width, height, width, height of each image without padding.
        masks: of each image, where there are any.
    """

    classes: torch.Tensor
    boxes: torch.Tensor
    counts: list[int]
    scales: torch.Tensor
    masks: list[BitMasks | PolygonMasks] | None = None

    @classmethod
    def collect(cls, instances: Sequence[Instances], scales: torch.Tensor) -> "Targets":
        """From detectron2's instances, which are on the device of `scales`."""
        with_masks = all(i.has("gt_masks") for i in instances)
        return cls(
            classes=torch.cat([i.gt_classes for i in instances]),
            boxes=torch.cat([i.gt_boxes.tensor for i in instances]).float(),
            counts=[len(i) for i in instances],
            scales=scales,
            masks=[i.gt_masks for i in instances] if with_masks else None,
        )

    @cached_property
    def num_objects(self) -> torch.Tensor:
        """What losses are divided by, see `mean_count`: objects of the global batch, at least 1; a scalar.

        All processes must ask for it at the same point.
        """
        return mean_count(len(self.classes), self.boxes.device)

    def slice_of(self, image: int) -> slice:
        """Where the objects of an image are."""
        start = sum(self.counts[:image])
        return slice(start, start + self.counts[image])
