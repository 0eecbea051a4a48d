"""Proposal boxes that look at the image first: queries attend to one feature map and move the learned boxes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import nn
from torchvision.ops import MLP, box_convert

from sparse_rcnn.position_encoding import POSITION_ENCODINGS, SinePositionEncoding, sizes_tensor
from sparse_rcnn.proposal_boxes import LearnedProposalBoxes, Proposals, in_pixels
from xray_lazy.errors import UserError


class BoxTransformer(LearnedProposalBoxes):
    """Per-image proposal boxes and queries.

    A transformer decoder (Vaswani et al., NeurIPS 2017) with the proposals' features as queries and levels of the
    feature pyramid as memory. After each layer, one shared perceptron gives R-CNN's deltas of the boxes. Its last
    layer starts with zeros, as does the one that hands queries on: before training, and with a published checkpoint,
    boxes and queries are exactly the learned ones.

    Args:
        num_proposals: `N`.
        start: what the learned boxes are before training, see `LearnedProposalBoxes`.
        dim: of queries and feature maps.
        num_layers: of the decoder.
        num_heads: of each attention.
        feedforward_dim: inside of each feed-forward network.
        dropout: after each attention and in the feed-forward networks.
        position_encoding: "sine" or "learned".
        feature_level: index into the feature maps, or several; lower is finer.
        mlp_hidden_dim, mlp_num_layers: of the perceptron that gives the deltas.
        encode_boxes: tell each query where its present box is (Liu et al., "DAB-DETR", ICLR 2022, section 4.2).
        refine_boxes: a layer's deltas move the boxes of the layer before (Zhu et al., "Deformable DETR", ICLR 2021,
            section 4.2), instead of the learned ones.
        hand_on_queries: the cascade's queries are the learned ones plus a projection of the decoder's.
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
        feature_level: int | Sequence[int] = 2,
        mlp_hidden_dim: int = 256,
        mlp_num_layers: int = 2,
        encode_boxes: bool = False,
        refine_boxes: bool = False,
        hand_on_queries: bool = False,
    ) -> None:
        super().__init__(num_proposals, start)
        if position_encoding not in POSITION_ENCODINGS:
            raise UserError(
                f"position_encoding is {position_encoding!r}", f"it may be {' or '.join(POSITION_ENCODINGS)}"
            )
        self.feature_levels = [feature_level] if isinstance(feature_level, int) else list(feature_level)
        if not self.feature_levels:
            raise UserError("the box transformer looks at no feature map", "set feature_level, e.g. to 2 or [1,2,3]")
        self.refine_boxes = refine_boxes
        self.position_encoding = POSITION_ENCODINGS[position_encoding](dim)
        self.memory_norm = nn.LayerNorm(dim)
        several = len(self.feature_levels) > 1
        self.level_encoding = nn.Parameter(torch.zeros(len(self.feature_levels), dim)) if several else None
        self.layers = nn.ModuleList(DecoderLayer(dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers))
        self.mlp = MLP(dim, [mlp_hidden_dim] * (mlp_num_layers - 1) + [4])
        self.box_encoding = BoxEncoding(dim) if encode_boxes else None
        self.handed_on = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim)) if hand_on_queries else None
        self.box_transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for the matrices; zeros for the layers whose outputs are added to what is learned."""
        parts = [part for part in (self.layers, self.box_encoding, self.mlp, self.handed_on) if part is not None]
        for part in parts:
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for part in (self.mlp, self.handed_on):
            if part is not None:
                last = [module for module in part.modules() if isinstance(module, nn.Linear)][-1]
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(
        self,
        learned: torch.Tensor,
        features: Sequence[torch.Tensor],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> Proposals:
        """Boxes after each layer, and the queries."""
        keys, memory, is_padding = self._memory(features, image_sizes, padded_size)
        learned = learned.expand(memory.shape[0], -1, -1)
        queries, boxes = learned, self.weight.expand(memory.shape[0], -1, -1)
        layers = []
        for layer in self.layers:
            positions = None if self.box_encoding is None else self.box_encoding(boxes.detach())
            queries = layer(queries, keys, memory, is_padding, positions)
            # without detaching, so that the learned boxes learn from the last layer, too
            boxes = self._moved(boxes if self.refine_boxes else self.weight.expand_as(boxes), queries)
            layers.append(boxes)
        handed_on = learned if self.handed_on is None else learned + self.handed_on(queries)
        return Proposals(in_pixels(torch.stack(layers), image_sizes), handed_on)

    def _memory(
        self, features: Sequence[torch.Tensor], image_sizes: Sequence[tuple[int, int]], padded_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keys and values `(B, P, dim)` of the cells of all levels, and which are padding, `(B, P)`."""
        keys, memory, is_padding = [], [], []
        for place, level in enumerate(self.feature_levels):
            positions, outside = grid(features[level], image_sizes, padded_size)
            memory.append(self.memory_norm(features[level].flatten(2).transpose(1, 2)))
            encoding = self.position_encoding(positions).flatten(1, 2)
            if self.level_encoding is not None:
                encoding = encoding + self.level_encoding[place]
            keys.append(memory[-1] + encoding)
            is_padding.append(outside.flatten(1))
        return torch.cat(keys, 1), torch.cat(memory, 1), torch.cat(is_padding, 1)

    def _moved(self, boxes: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Boxes `(B, N, 4)`, cxcywh, moved as the queries `(B, N, dim)` say."""
        corners = box_convert(boxes.float(), "cxcywh", "xyxy").flatten(0, 1)
        moved = self.box_transform.apply_deltas(self.mlp(queries).float().flatten(0, 1), corners)
        return box_convert(moved, "xyxy", "cxcywh").view_as(boxes)


class BoxEncoding(nn.Module):
    """Sines and cosines of center and size, through a perceptron of two layers.

    Args:
        dim: of the encoding, a multiple of 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.encoding = SinePositionEncoding(dim)
        self.mlp = MLP(2 * dim, [dim, dim])

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        """Encode boxes `(..., 4)`, cxcywh relative to their image, as `(..., dim)`."""
        return self.mlp(torch.cat([self.encoding(boxes[..., :2].float()), self.encoding(boxes[..., 2:].float())], -1))


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
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        memory: torch.Tensor,
        is_padding: torch.Tensor,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The next queries.

        Args:
            queries: `(B, N, dim)`.
            keys, memory: `(B, P, dim)`, what attention compares with and what it takes.
            is_padding: `(B, P)`.
            positions: `(B, N, dim)`, where each query is, for comparing only.
        """
        placed = queries if positions is None else queries + positions
        attended, _ = self.self_attention(placed, placed, queries, need_weights=False)
        queries = self.norm1(queries + self.dropout(attended))
        placed = queries if positions is None else queries + positions
        seen, _ = self.cross_attention(placed, keys, memory, key_padding_mask=is_padding, need_weights=False)
        queries = self.norm2(queries + self.dropout(seen))
        thought = self.linear2(self.dropout(F.relu(self.linear1(queries))))
        return self.norm3(queries + self.dropout(thought))


def grid(
    feature_map: torch.Tensor, image_sizes: Sequence[tuple[int, int]], padded_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the cells of a feature map `(B, D, h, w)` are in their images.

    Args:
        image_sizes: height and width of each image, pixels.
        padded_size: height and width of the input, pixels.

    Returns:
        centers `(B, h, w, 2)` as (row, column) relative to the image, and which cells are padding, `(B, h, w)`.
    """
    height, width = feature_map.shape[-2:]
    rows = (torch.arange(height, device=feature_map.device) + 0.5) * (padded_size[0] / height)
    columns = (torch.arange(width, device=feature_map.device) + 0.5) * (padded_size[1] / width)
    centers = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    positions = centers / sizes_tensor(image_sizes, centers.device)[:, None, None]
    # an image that is thinner than half a cell still has its first cell
    is_padding = (positions >= 1) & (centers > centers[0, 0])
    return positions, is_padding.any(-1)
