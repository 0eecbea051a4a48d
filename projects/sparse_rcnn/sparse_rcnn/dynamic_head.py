"""The cascade of stages, each with the boxes of the one before."""

import copy
from collections.abc import Sequence

import torch
from detectron2.modeling.poolers import ROIPooler
from torch import nn

from sparse_rcnn.dynamic_stage import DynamicStage
from xray_lazy.modeling.region_pooling import pool_together


class DynamicHead(nn.Module):
    """`num_stages` stages with weights of their own.

    Args:
        stage: copied for each stage, with new initial weights.
        box_pooler: gives features of a box.
        num_stages: how often boxes are refined.
    """

    def __init__(self, stage: DynamicStage, box_pooler: ROIPooler, num_stages: int = 6) -> None:
        super().__init__()
        self.box_pooler = box_pooler
        self.head_series = nn.ModuleList(copy.deepcopy(stage) for _ in range(num_stages))
        for one in self.head_series:
            one.reset_parameters()

    def forward(
        self,
        features: Sequence[torch.Tensor],
        boxes: torch.Tensor,
        proposals: torch.Tensor,
        groups: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Refine.

        Args:
            features: one `(B, D, h, w)` for each level of the pooler, float32.
            boxes: `(B, N, 4)`, xyxy pixels.
            proposals: `(B, N, D)`.
            groups: `(B, N)`, numbers; a proposal attends to those of its group alone. One group without.

        Returns:
            of all stages: logits `(S, B, N, num_logits)`, boxes `(S, B, N, 4)` and proposals `(S, B, N, D)`.
        """
        apart = None if groups is None else groups[:, :, None] != groups[:, None]
        outputs = []
        for stage in self.head_series:
            regions = pool_together(self.box_pooler, features, boxes)
            logits, boxes, proposals = stage(regions.flatten(2).transpose(1, 2), boxes, proposals, apart)
            outputs.append((logits, boxes, proposals))
            boxes = boxes.detach()
        logits, boxes, proposals = (torch.stack(values) for values in zip(*outputs, strict=True))
        return logits, boxes, proposals
