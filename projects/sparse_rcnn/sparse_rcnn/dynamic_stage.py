"""One stage of the cascade: each proposal's own convolution looks at its region, and gives class and box."""

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import nn

from sparse_rcnn.classification import FocalClassification, SoftmaxClassification


class DynamicStage(nn.Module):
    """Self-attention between proposals, dynamic convolution with the region's features, then class and box.

    After the dynamic instance interactive head of Sun et al., CVPR 2021, section 3.2.

    Args:
        classification: gives the number of logits and their bias before training.
        box_transform: from deltas to boxes.
        pooler_resolution: height and width of the regions' features.
        hidden_dim: channels of features and proposals.
        num_heads: of the self-attention.
        feedforward_dim: inside of the feed-forward network.
        dynamic_dim: inside of the dynamic convolution.
        num_class_layers, num_box_layers: hidden layers before the two outputs.
        dropout: after attention, convolution and in the feed-forward network.
    """

    def __init__(
        self,
        classification: FocalClassification | SoftmaxClassification,
        box_transform: Box2BoxTransform,
        pooler_resolution: int = 7,
        hidden_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        dynamic_dim: int = 64,
        num_class_layers: int = 1,
        num_box_layers: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.box_transform = box_transform
        self.initial_class_bias = classification.initial_bias
        self.self_attn = nn.MultiheadAttention(hidden_dim, num_heads, dropout=dropout, batch_first=True)
        self.inst_interact = DynamicConvolution(hidden_dim, dynamic_dim, pooler_resolution)
        self.linear1 = nn.Linear(hidden_dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, hidden_dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(hidden_dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.cls_module = _hidden_layers(num_class_layers, hidden_dim)
        self.reg_module = _hidden_layers(num_box_layers, hidden_dim)
        self.class_logits = nn.Linear(hidden_dim, classification.num_logits)
        self.bboxes_delta = nn.Linear(hidden_dim, 4)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for all matrices; the class prior for the class bias, and for nothing else."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.constant_(self.class_logits.bias, self.initial_class_bias)

    def forward(
        self,
        regions: torch.Tensor,
        boxes: torch.Tensor,
        proposals: torch.Tensor,
        apart: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Look at the regions once.

        Args:
            regions: `(B * N, R * R, hidden_dim)`, features in the boxes.
            boxes: `(B, N, 4)`, xyxy pixels.
            proposals: `(B, N, hidden_dim)`, what is known of each proposal.
            apart: `(B, N, N)`, which ones do not attend to each other.

        Returns:
            logits `(B, N, num_logits)`, boxes `(B, N, 4)` in float32, and proposals `(B, N, hidden_dim)`.
        """
        of_heads = None if apart is None else apart.repeat_interleave(self.self_attn.num_heads, dim=0)
        attended, _ = self.self_attn(proposals, proposals, proposals, need_weights=False, attn_mask=of_heads)
        proposals = self.norm1(proposals + self.dropout(attended))
        seen = self.inst_interact(proposals.flatten(0, 1), regions)
        proposals = self.norm2(proposals + self.dropout(seen.view_as(proposals)))
        thought = self.linear2(self.dropout(F.relu(self.linear1(proposals))))
        proposals = self.norm3(proposals + self.dropout(thought))
        logits = self.class_logits(self.cls_module(proposals))
        deltas = self.bboxes_delta(self.reg_module(proposals)).float()
        new_boxes = self.box_transform.apply_deltas(deltas.flatten(0, 1), boxes.flatten(0, 1))
        return logits, new_boxes.view_as(boxes), proposals


class DynamicConvolution(nn.Module):
    """Two 1x1 convolutions whose weights come from the proposal, then one vector for the whole region.

    Args:
        hidden_dim: channels of the region and of the proposal.
        dynamic_dim: channels between the convolutions.
        resolution: height and width of the region.
    """

    def __init__(self, hidden_dim: int, dynamic_dim: int, resolution: int) -> None:
        super().__init__()
        self.hidden_dim, self.dynamic_dim = hidden_dim, dynamic_dim
        self.dynamic_layer = nn.Linear(hidden_dim, 2 * hidden_dim * dynamic_dim)
        self.norm1, self.norm2 = nn.LayerNorm(dynamic_dim), nn.LayerNorm(hidden_dim)
        self.out_layer = nn.Linear(hidden_dim * resolution**2, hidden_dim)
        self.norm3 = nn.LayerNorm(hidden_dim)

    def forward(self, proposals: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """From proposals `(P, hidden_dim)` and regions `(P, R * R, hidden_dim)` to `(P, hidden_dim)`."""
        regions = convolve(proposals, regions, self.dynamic_layer, self.norm1, self.norm2)
        return F.relu(self.norm3(self.out_layer(regions.flatten(1))))


def convolve(
    proposals: torch.Tensor, regions: torch.Tensor, dynamic_layer: nn.Linear, norm1: nn.LayerNorm, norm2: nn.LayerNorm
) -> torch.Tensor:
    """Two 1x1 convolutions of regions `(P, R * R, D)` with weights that `dynamic_layer` makes of proposals `(P, D)`."""
    weights_in, weights_out = dynamic_layer(proposals).chunk(2, dim=1)
    inner = norm1.normalized_shape[0]
    regions = F.relu(norm1(torch.bmm(regions, weights_in.unflatten(1, (-1, inner)))))
    return F.relu(norm2(torch.bmm(regions, weights_out.unflatten(1, (inner, -1)))))


def _hidden_layers(count: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Linear(width, width, bias=False), nn.LayerNorm(width), nn.ReLU()]
    return nn.Sequential(*layers)
