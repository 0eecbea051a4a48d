"""Proposal boxes that look at the picture first: queries attend to one feature map and move the learned boxes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import nn
from torchvision.ops import MLP, box_convert

from sparse_rcnn.position_encoding import POSITION_ENCODINGS, sizes_tensor
from sparse_rcnn.proposal_boxes import LearnedProposalBoxes, Proposals, in_pixels
from xray_lazy.errors import UserError


class BoxTransformer(LearnedProposalBoxes):
    """Per-picture proposal boxes.

    A transformer decoder (Vaswani et al., NeurIPS 2017) with the proposals' features as queries and one level of the
    feature pyramid as memory. After each layer, one shared perceptron gives R-CNN's deltas from the learned boxes. Its
    last layer starts with zeros: before training, and with a published checkpoint, boxes are exactly the learned ones.

    Args:
        num_proposals: `N`.
        start: what the learned boxes are before training, see `LearnedProposalBoxes`.
        dim: of queries and feature maps.
        num_layers: of the decoder.
        num_heads: of each attention.
        feedforward_dim: inside of each feed-forward network.
        dropout: after each attention and in the feed-forward networks.
        position_encoding: "sine" or "learned".
        feature_level: index into the feature maps; lower is finer.
        mlp_hidden_dim, mlp_num_layers: of the perceptron that gives the deltas.
    """

    def __init__(
        self,
        num_proposals: int,
        start: str = "picture",
        dim: int = 256,
        num_layers: int = 2,
        num_heads: int = 8,
        feedforward_dim: int = 1024,
        dropout: float = 0.1,
        position_encoding: str = "sine",
        feature_level: int = 2,
        mlp_hidden_dim: int = 256,
        mlp_num_layers: int = 2,
    ) -> None:
        super().__init__(num_proposals, start)
        if position_encoding not in POSITION_ENCODINGS:
            raise UserError(
                f"position_encoding is {position_encoding!r}", f"it may be {' or '.join(POSITION_ENCODINGS)}"
            )
        self.feature_level = feature_level
        self.position_encoding = POSITION_ENCODINGS[position_encoding](dim)
        self.memory_norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers))
        self.mlp = MLP(dim, [mlp_hidden_dim] * (mlp_num_layers - 1) + [4])
        self.box_transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for the matrices; zeros for the layer that gives the deltas."""
        for module in (self.layers, self.mlp):
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        last = [module for module in self.mlp.modules() if isinstance(module, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self,
        learned: torch.Tensor,
        features: Sequence[torch.Tensor],
        picture_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> Proposals:
        """Boxes after each layer, with the learned queries."""
        feature_map = features[self.feature_level]
        positions, is_padding = grid(feature_map, picture_sizes, padded_size)
        memory = self.memory_norm(feature_map.flatten(2).transpose(1, 2))
        keys = memory + self.position_encoding(positions).flatten(1, 2)
        queries = learned.expand(len(feature_map), -1, -1)
        learned_boxes = box_convert(self.weight, "cxcywh", "xyxy").repeat(len(feature_map), 1)
        layers = []
        for layer in self.layers:
            queries = layer(queries, keys, memory, is_padding.flatten(1))
            boxes = self.box_transform.apply_deltas(self.mlp(queries).float().flatten(0, 1), learned_boxes)
            layers.append(box_convert(boxes, "xyxy", "cxcywh").view(*queries.shape[:2], 4))
        return Proposals(in_pixels(torch.stack(layers), picture_sizes), learned.expand(len(feature_map), -1, -1))


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the memory, feed-forward network; normalised after each."""

    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward_dim), nn.Linear(feedforward_dim, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, memory: torch.Tensor, is_padding: torch.Tensor
    ) -> torch.Tensor:
        """Queries `(B, N, dim)`, keys and memory `(B, P, dim)`, padding `(B, P)`; returns the queries."""
        attended, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = self.norm1(queries + self.dropout(attended))
        seen, _ = self.cross_attention(queries, keys, memory, key_padding_mask=is_padding, need_weights=False)
        queries = self.norm2(queries + self.dropout(seen))
        thought = self.linear2(self.dropout(F.relu(self.linear1(queries))))
        return self.norm3(queries + self.dropout(thought))


def grid(
    feature_map: torch.Tensor, picture_sizes: Sequence[tuple[int, int]], padded_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cells of a feature map `(B, D, h, w)` are in their pictures.

    Args:
        picture_sizes: height and width of each picture, pixels.
        padded_size: height and width that `h` and `w` stand for, pixels.

    Returns:
        centers `(B, h, w, 2)` as (row, column) relative to the picture, and which cells are padding, `(B, h, w)`.
    """
    height, width = feature_map.shape[-2:]
    rows = (torch.arange(height, device=feature_map.device) + 0.5) * (padded_size[0] / height)
    columns = (torch.arange(width, device=feature_map.device) + 0.5) * (padded_size[1] / width)
    centers = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    positions = centers / sizes_tensor(picture_sizes, centers.device)[:, None, None]
    # a picture that is thinner than half a cell still has its first cell
    is_padding = (positions >= 1) & (centers > centers[0, 0])
    return positions, is_padding.any(-1)
