"""Which cells of the feature maps are to find which object: several cells each, where class and box agree best."""

from dataclasses import dataclass

import torch
from torchvision.ops import box_iou

from sparse_rcnn.targets import Targets


@dataclass
class DenseTargets:
    """What each of `P` cells of `B` images is to predict.

    Attributes:
        scores: `(B, P, num_classes)`, 0 to 1, the class score wanted: 0 but for the class of the cell's object.
        boxes: `(B, P, 4)`, xyxy pixels, of the cell's object; anything where `weights` is 0.
        weights: `(B, P)`, how much the cell's box counts; 0 where it has no object.
    """

    scores: torch.Tensor
    boxes: torch.Tensor
    weights: torch.Tensor


class TaskAlignedAssigner:
    """One object to many cells (Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section 3.2).

    The cells with the highest `score ** alpha * IoU ** beta` among those whose center lies in an object learn it; a
    cell that several objects want goes to the one that it overlaps most. The score to learn is that product, scaled so
    that an object's best cell is to reach its IoU. The cell of each level that an object's center lies in may always
    be chosen, so that small and thin objects without any cell's center have some, too.

    Args:
        top_k: cells for each object.
        alpha, beta: exponents of score and IoU.
    """

    def __init__(self, top_k: int = 8, alpha: float = 0.5, beta: float = 6.0) -> None:
        self.top_k, self.alpha, self.beta = top_k, alpha, beta

    @torch.no_grad()
    def __call__(
        self,
        scores: torch.Tensor,
        boxes: torch.Tensor,
        centers: torch.Tensor,
        strides: torch.Tensor,
        is_padding: torch.Tensor,
        targets: Targets,
    ) -> DenseTargets:
        """Assign.

        Args:
            scores: `(B, P, num_classes)`, of the classes, 0 to 1.
            boxes: `(B, P, 4)`, predicted, xyxy pixels.
            centers: `(P, 2)`, of the cells, x and y in pixels.
            strides: `(P,)`, pixels between the centers of a cell's level.
            is_padding: `(B, P)`, cells outside of their image.
            targets: the batch's objects.
        """
        wanted = DenseTargets(torch.zeros_like(scores), torch.zeros_like(boxes), torch.zeros_like(boxes[..., 0]))
        for image in range(len(boxes)):
            objects = targets.slice_of(image)
            if objects.stop > objects.start:
                self._assign(
                    scores[image],
                    boxes[image],
                    self._may_learn(centers, strides, targets.boxes[objects]) & ~is_padding[image],
                    targets.boxes[objects],
                    targets.classes[objects],
                    [values[image] for values in (wanted.scores, wanted.boxes, wanted.weights)],
                )
        return wanted

    def _may_learn(self, centers: torch.Tensor, strides: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """`(M, P)`: the cell's center is in the object `(M, 4)`, or the object's center is in the cell."""
        low, high = objects[:, None, :2], objects[:, None, 2:]
        inside = ((centers > low) & (centers < high)).all(-1)
        return inside | (((low + high) / 2 - centers).abs() <= strides[:, None] / 2).all(-1)

    def _assign(
        self,
        scores: torch.Tensor,
        boxes: torch.Tensor,
        may_learn: torch.Tensor,
        objects: torch.Tensor,
        classes: torch.Tensor,
        wanted: list[torch.Tensor],
    ) -> None:
        """Of one image; fills in the tensors of `wanted`."""
        overlaps = box_iou(objects, boxes)  # (M, P)
        # where nothing overlaps yet, the score alone decides
        alignment = scores[:, classes].T ** self.alpha * overlaps.clamp(min=1e-3) ** self.beta * may_learn
        best = alignment.topk(min(self.top_k, alignment.shape[1]), dim=1).indices
        chosen = torch.zeros_like(may_learn).scatter_(1, best, True) & may_learn
        # of the objects that want a cell, the one that it overlaps most
        owner = torch.where(chosen, overlaps, -1.0).argmax(0)  # (P,)
        chosen &= torch.arange(len(objects), device=owner.device)[:, None] == owner
        alignment, overlaps = alignment * chosen, overlaps * chosen
        highest = alignment.amax(1, keepdim=True).clamp(min=torch.finfo(alignment.dtype).tiny)
        quality = (alignment / highest * overlaps.amax(1, keepdim=True)).amax(0)
        one_hot = classes[owner][:, None] == torch.arange(scores.shape[1], device=owner.device)
        wanted[0].copy_(one_hot * quality[:, None])
        wanted[1].copy_(objects[owner])
        wanted[2].copy_(quality)
