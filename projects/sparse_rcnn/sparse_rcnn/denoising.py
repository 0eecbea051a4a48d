"""Noised boxes of the objects beside the proposals: in training, the cascade also learns to find its way back."""

from dataclasses import dataclass

import torch
from torchvision.ops import generalized_box_iou

from sparse_rcnn.matching import Matches
from sparse_rcnn.targets import Targets


@dataclass
class NoisedObjects:
    """`Q` noised boxes of each of `B` images, and what they are to become.

    Attributes:
        boxes: `(B, Q, 4)`, xyxy pixels, where the cascade starts.
        groups: `(B, Q)`, number of the group; each has an object of its image at most once.
        targets: the object of each noised box of images that have any.
    """

    boxes: torch.Tensor
    groups: torch.Tensor
    targets: Targets

    def nearest(self, boxes: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Of the proposals `(B, N, 4)` with `(B, N, D)` queries, the query of the nearest, `(B, Q, D)`."""
        pairs = zip(self.boxes, boxes.detach(), strict=True)
        places = torch.stack([generalized_box_iou(noised, others).argmax(1) for noised, others in pairs])
        return queries.gather(1, places[..., None].expand(-1, -1, queries.shape[-1]))

    def matches(self, num_stages: int) -> Matches:
        """Each box with its object, in every stage."""
        counts, device = self.targets.counts, self.boxes.device
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(device)
        places = torch.cat([torch.arange(count) for count in counts]).to(device)
        objects = torch.arange(len(images), device=device)
        return Matches(counts, images, places.expand(num_stages, -1), objects.expand(num_stages, -1))


class Denoising:
    """Denoising training (Li et al., "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising", CVPR 2022).

    Matching gives the cascade one box for each object, and early in training hardly one that overlaps it. Noised boxes
    of the ground truth overlap theirs from the first step on, and need no matching. Each starts with the query of the
    proposal that is nearest to it, so that the queries are those that inference has, and sees none but its group:
    as often as they fit into `num_queries`, all objects of the image once. Nothing changes in inference.

    Args:
        num_queries: `Q`, noised boxes of each image.
        box_noise: how far each side of a box moves at most, as a share of half the box's width or height.
    """

    def __init__(self, num_queries: int = 50, box_noise: float = 0.4) -> None:
        self.num_queries, self.box_noise = num_queries, box_noise

    def __call__(self, targets: Targets) -> NoisedObjects:
        """Draw noise; an image without objects has whole images, which are to find nothing."""
        wanted = torch.arange(self.num_queries, device=targets.boxes.device)
        boxes, groups, objects = [], [], []
        for image, count in enumerate(targets.counts):
            groups.append(wanted // max(count, 1))
            if not count:
                whole = torch.cat([torch.zeros_like(targets.scales[image, :2]), targets.scales[image, 2:]])
                boxes.append(whole.expand(self.num_queries, 4))
                continue
            chosen = targets.slice_of(image).start + wanted % count
            objects.append(chosen)
            boxes.append(self._noised(targets.boxes[chosen], targets.scales[image]))
        flat = torch.cat(objects) if objects else wanted[:0]
        counts = [self.num_queries if count else 0 for count in targets.counts]
        of_boxes = Targets(targets.classes[flat], targets.boxes[flat], counts, targets.scales)
        return NoisedObjects(torch.stack(boxes), torch.stack(groups), of_boxes)

    def _noised(self, boxes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Boxes `(Q, 4)`, xyxy pixels, each side moved by itself, within an image of `scale` (width, height, ...)."""
        half_sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) / 2
        moved = boxes + (2 * torch.rand_like(boxes) - 1) * self.box_noise * half_sides
        return moved.clamp(min=0).minimum(scale)
