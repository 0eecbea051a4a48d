"""Which object each box of a batch overlaps most, for all images at once and without waiting for a GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Instances
from torch.nn.utils.rnn import pad_sequence

# overlaps that are held at a time, over all images: 64 MiB in each of a few tensors, however many objects there are
OVERLAPS = 2**24


@dataclass
class PaddedBoxes:
    """Boxes of `B` images, of which each has up to `N`, at least 1.

    Attributes:
        boxes: `(B, N, 4)`, xyxy pixels; zeros where an image has fewer.
        there: `(B, N)`, which of them are boxes.
    """

    boxes: torch.Tensor
    there: torch.Tensor

    @classmethod
    def collect(cls, boxes: Sequence[torch.Tensor]) -> "PaddedBoxes":
        """From the boxes `(n, 4)` of each image."""
        padded = padded_rows(boxes)
        counts = torch.tensor([len(of_image) for of_image in boxes]).to(padded.device, non_blocking=True)
        return cls(padded, torch.arange(padded.shape[1], device=padded.device) < counts[:, None])


def objects_of(instances: Sequence[Instances]) -> PaddedBoxes:
    """The ground-truth boxes of a batch."""
    return PaddedBoxes.collect([of_image.gt_boxes.tensor for of_image in instances])


def padded_rows(values: Sequence[torch.Tensor], padding: float = 0) -> torch.Tensor:
    """Tensors `(n, ...)` of several images as one `(B, N, ...)`, with `N` at least 1."""
    longest = max(1, *(len(of_image) for of_image in values))
    padded = pad_sequence(list(values), batch_first=True, padding_value=padding)
    if padded.shape[1] == longest:
        return padded
    return padded.new_full((len(values), longest, *padded.shape[2:]), padding)


@torch.no_grad()
def match_objects(objects: PaddedBoxes, boxes: torch.Tensor, matcher: Matcher) -> tuple[torch.Tensor, torch.Tensor]:
    """What detectron2's `matcher` gives for the overlaps of each image's boxes with its objects.

    Args:
        boxes: `(B, P, 4)`, or `(1, P, 4)` for the same ones in every image.

    Returns:
        the object that each box overlaps most, `(B, P)`, and the matcher's label, `(B, P)` int8.
    """
    images, count = objects.there.shape
    best = boxes.new_full((images, boxes.shape[1]), -1.0)
    best_object = torch.zeros_like(best, dtype=torch.int64)
    is_best_of_object = torch.zeros_like(best, dtype=torch.bool)
    step = max(1, OVERLAPS // max(1, best.numel()))
    for start in range(0, count, step):
        part = slice(start, start + step)
        overlaps = box_overlaps(objects.boxes[:, part], boxes)
        there = objects.there[:, part, None]
        overlaps = overlaps.where(there, -1.0)
        most, which = overlaps.max(1)
        best_object = torch.where(most > best, which + start, best_object)
        best = torch.maximum(best, most)
        if matcher.allow_low_quality_matches:
            # of several boxes that overlap an object most, all
            is_best_of_object |= ((overlaps == overlaps.amax(2, keepdim=True)) & there).any(1)
    labels = torch.ones_like(best, dtype=torch.int8)
    for label, low, high in zip(matcher.labels, matcher.thresholds, matcher.thresholds[1:], strict=False):
        labels = torch.where((best >= low) & (best < high), label, labels)
    return best_object, torch.where(is_best_of_object, 1, labels).to(torch.int8)


def box_overlaps(objects: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of objects `(B, N, 4)` and boxes `(B, P, 4)`, as `(B, N, P)`."""
    objects, boxes = objects[:, :, None], boxes[:, None]
    inner = [
        (torch.min(objects[..., i + 2], boxes[..., i + 2]) - torch.max(objects[..., i], boxes[..., i])).clamp_(min=0)
        for i in range(2)
    ]
    inside = inner[0].mul_(inner[1])
    union = _area(objects) + _area(boxes) - inside
    # boxes without area overlap nothing
    return torch.where(inside > 0, inside / union, 0.0)


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
