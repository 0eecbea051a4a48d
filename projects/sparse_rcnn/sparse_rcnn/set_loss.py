"""The set loss: classes of all proposals, boxes of the matched ones, in every stage."""

import torch
import torch.nn.functional as F
from torch import nn

from sparse_rcnn.classification import FocalClassification, SoftmaxClassification
from sparse_rcnn.matching import HungarianMatcher, Matches
from sparse_rcnn.proposal_boxes import Proposals
from sparse_rcnn.targets import Targets
from xray_lazy.errors import UserError


class SetCriterion(nn.Module):
    """Losses between the predictions of all stages and the objects that the matcher gives them.

    Sums are divided by the number of objects, see `Targets.num_objects`.

    Args:
        classification: gives the class loss.
        matcher: assigns proposals to objects.
        class_weight, l1_weight, giou_weight: of the losses; L1 is of boxes relative to their image.
    """

    def __init__(
        self,
        classification: FocalClassification | SoftmaxClassification,
        matcher: HungarianMatcher,
        class_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
    ) -> None:
        super().__init__()
        self.classification, self.matcher = classification, matcher
        if not (class_weight or l1_weight or giou_weight):
            raise UserError(
                "all weights are 0: nothing would be learned",
                "set one of model.criterion's class_weight, l1_weight, giou_weight above 0",
            )
        self.class_weight, self.l1_weight, self.giou_weight = class_weight, l1_weight, giou_weight
        # the name that published checkpoints of the softmax variant have; no entry for the focal one
        self.register_buffer("empty_weight", classification.class_weights)

    def forward(
        self, logits: torch.Tensor, boxes: torch.Tensor, targets: Targets, proposals: Proposals | None = None
    ) -> tuple[dict[str, torch.Tensor], Matches]:
        """Match and compare.

        Args:
            logits: `(S, B, N, num_logits)`.
            boxes: `(S, B, N, 4)`, xyxy pixels.
            targets: the batch's objects.
            proposals: those that the first stage started with; they learn as a stage does where they have logits.

        Returns:
            `loss_ce`, `loss_bbox` and `loss_giou` of the last stage, `loss_ce_<stage>`, ... of those before it and
            `loss_ce_proposals`, ... of the proposals; and the matches of the stages.
        """
        before = 0
        if proposals is not None and proposals.logits is not None:
            logits = torch.cat([proposals.logits[None], logits])
            boxes = torch.cat([proposals.boxes[-1:], boxes])
            before = 1
        matches = self.matcher(logits, boxes, targets)
        losses: dict[str, torch.Tensor] = {}
        for name, values in self.losses(logits, boxes, targets, matches).items():
            losses |= {f"{name}_proposals": value for value in values[:before]}
            losses |= named_by_stage(name, values[before:])
        return losses, matches.of_stages(before)

    def losses(
        self, logits: torch.Tensor, boxes: torch.Tensor, targets: Targets, matches: Matches
    ) -> dict[str, torch.Tensor]:
        """Compare what is matched: weighted `loss_ce`, `loss_bbox` and `loss_giou`, each `(S,)`; else as `forward`."""
        no_object = self.classification.num_classes
        wanted = torch.full(logits.shape[:3], no_object, dtype=torch.int64, device=logits.device)
        stages = torch.arange(len(logits), device=logits.device)[:, None]
        wanted[stages, matches.images, matches.proposals] = targets.classes[matches.objects]
        overlaps = self._overlaps(boxes, targets, matches) if self.classification.learns_overlap else None
        class_losses = self.classification.loss(
            logits.float(), wanted, targets.num_objects, self.empty_weight, overlaps
        )
        return {"loss_ce": class_losses * self.class_weight, **self.box_losses(boxes, targets, matches)}

    @staticmethod
    @torch.no_grad()
    def _overlaps(boxes: torch.Tensor, targets: Targets, matches: Matches) -> torch.Tensor:
        """IoU of each box of `(S, B, N, 4)` and the object that it is matched to, `(S, B, N)`; 0 without one."""
        overlaps = boxes.new_zeros(boxes.shape[:3], dtype=torch.float32)
        stages = torch.arange(len(boxes), device=boxes.device)[:, None]
        found, wanted = matches.take(boxes).float(), targets.boxes[matches.objects]
        shared, union = intersection_and_union(found, wanted)
        # a diverging model's boxes may be turned inside out
        overlaps[stages, matches.images, matches.proposals] = (shared / union.clamp(min=1e-7)).clamp(0, 1)
        return overlaps

    def box_losses(self, boxes: torch.Tensor, targets: Targets, matches: Matches) -> dict[str, torch.Tensor]:
        """Weighted L1 and GIoU losses `(S,)` of the boxes `(S, B, N, 4)`; GIoU of matched pairs only."""
        found, wanted = matches.take(boxes).float(), targets.boxes[matches.objects]
        scale = targets.scales[matches.images]
        l1 = F.l1_loss(found / scale, wanted / scale, reduction="none").sum((1, 2))
        giou = giou_loss(found, wanted).sum(1)
        l1, giou = self.l1_weight * l1, self.giou_weight * giou
        return {"loss_bbox": l1 / targets.num_objects, "loss_giou": giou / targets.num_objects}


def giou_loss(found: torch.Tensor, wanted: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    """1 - generalized IoU (Rezatofighi et al., CVPR 2019) of pairs of boxes `(..., 4)`, xyxy, as `(...)`.

    torchvision's own picks the pairs that overlap, and the host waits for a GPU to tell how many these are.
    """
    overlap, union = intersection_and_union(found, wanted)
    hull = _area(torch.min(found[..., :2], wanted[..., :2]), torch.max(found[..., 2:], wanted[..., 2:]))
    return 1 - (overlap / (union + eps) - (hull - union) / (hull + eps))


def intersection_and_union(found: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Areas `(...)` that pairs of boxes `(..., 4)`, xyxy, have in common and cover together."""
    low, high = torch.max(found[..., :2], wanted[..., :2]), torch.min(found[..., 2:], wanted[..., 2:])
    overlap = torch.where((high > low).all(-1), _area(low, high), 0.0)
    return overlap, _area(found[..., :2], found[..., 2:]) + _area(wanted[..., :2], wanted[..., 2:]) - overlap


def named_by_stage(name: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """`name` for the last stage's value of `(S,)`, `name_<stage>` for those before it."""
    last = len(values) - 1
    return {name if stage == last else f"{name}_{stage}": value for stage, value in enumerate(values)}


def _area(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    width, height = (high - low).unbind(-1)
    return width * height
