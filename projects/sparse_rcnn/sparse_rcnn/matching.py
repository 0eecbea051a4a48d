"""Which proposal is to find which object: the assignment of least cost (Carion et al., ECCV 2020)."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import generalized_box_iou

from sparse_rcnn.classification import FocalClassification, SoftmaxClassification
from sparse_rcnn.targets import Targets
from xray_lazy.errors import UserError

# What an undefined cost counts as: a diverged model is reported by its loss, not by the assignment.
IMPOSSIBLE = 1e6


@dataclass
class Matches:
    """Matched pairs of all stages; each stage has the same number `K` of them.

    Attributes:
        counts: pairs of each image, `K` in all.
        images: `(K,)`, index of the image in the batch, ascending.
        proposals: `(S, K)`, index of the proposal in its image.
        objects: `(S, K)`, index of the object among those of the whole batch.
    """

    counts: list[int]
    images: torch.Tensor
    proposals: torch.Tensor
    objects: torch.Tensor

    def take(self, predictions: torch.Tensor) -> torch.Tensor:
        """The matched ones of `(S, B, N, ...)`, as `(S, K, ...)`."""
        stages = torch.arange(len(predictions), device=predictions.device)[:, None]
        return predictions[stages, self.images, self.proposals]

    def of_stages(self, first: int) -> "Matches":
        """The matches from stage `first` on."""
        return Matches(self.counts, self.images, self.proposals[first:], self.objects[first:])


class HungarianMatcher:
    """One proposal for each object by the Hungarian method, for all stages and images with one transfer to the host.

    Where an image has more objects than there are proposals, the best-fitting objects get one each.

    Args:
        classification: gives the class cost.
        class_weight, l1_weight, giou_weight: of the costs; L1 is of boxes relative to their image.
    """

    def __init__(
        self,
        classification: FocalClassification | SoftmaxClassification,
        class_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        self.classification = classification
        if not (class_weight or l1_weight or giou_weight):
            raise UserError(
                "all weights are 0: every proposal would fit every object as well",
                "set one of model.criterion.matcher's class_weight, l1_weight, giou_weight above 0",
            )
        self.class_weight, self.l1_weight, self.giou_weight = class_weight, l1_weight, giou_weight

    @torch.no_grad()
    def __call__(self, logits: torch.Tensor | None, boxes: torch.Tensor, targets: Targets) -> Matches:
        """Match.

        Args:
            logits: `(S, B, N, num_logits)`; None matches by boxes alone.
            boxes: `(S, B, N, 4)`, xyxy pixels.
            targets: the batch's objects.
        """
        stages, _, proposals, _ = boxes.shape
        with torch.autocast(boxes.device.type, enabled=False):
            costs = [
                self._costs(None if logits is None else logits[:, image], boxes[:, image], targets, image)
                for image in range(len(targets.counts))
            ]
        host = torch.cat([cost.flatten() for cost in costs]).cpu().numpy()
        counts = [min(count, proposals) for count in targets.counts]
        pairs: list[list[tuple[int, int]]] = [[] for _ in range(stages)]
        place = first_object = 0
        for count in targets.counts:
            size = stages * proposals * count
            for stage, cost in enumerate(host[place : place + size].reshape(stages, proposals, count)):
                rows, columns = linear_sum_assignment(cost)
                pairs[stage] += zip(rows.tolist(), (columns + first_object).tolist(), strict=True)
            place += size
            first_object += count
        images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        indices = (
            torch.tensor(pairs, dtype=torch.int64).view(stages, len(images), 2).to(boxes.device, non_blocking=True)
        )
        return Matches(counts, images.to(boxes.device, non_blocking=True), indices[..., 0], indices[..., 1])

    def _costs(self, logits: torch.Tensor | None, boxes: torch.Tensor, targets: Targets, image: int) -> torch.Tensor:
        """Costs of one image, `(S * N, M)`, in float32."""
        objects = targets.slice_of(image)
        boxes, wanted, scale = boxes.flatten(0, 1).float(), targets.boxes[objects], targets.scales[image]
        cost = self.l1_weight * torch.cdist(boxes / scale, wanted / scale, p=1)
        cost = cost - self.giou_weight * generalized_box_iou(boxes, wanted)
        if logits is not None:
            classes = targets.classes[objects]
            cost = cost + self.class_weight * self.classification.cost(logits.flatten(0, 1).float(), classes)
        return cost.nan_to_num(nan=IMPOSSIBLE, posinf=IMPOSSIBLE, neginf=IMPOSSIBLE)
