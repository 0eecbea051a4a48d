"""Where the cascade starts to look: boxes that are learned, or the whole picture.

A source of proposal boxes is called with the proposals' features `(N, D)`, the feature maps (one `(B, D, h, w)` per
level), the sizes of the pictures (height, width) without padding and the padded size. It returns boxes as
`(layers, B, N, 4)`, (center x, center y, width, height) relative to each picture; the last layer starts the cascade.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from xray_lazy.errors import UserError


class SameProposalBoxes(nn.Module):
    """The boxes of `weight`, `(N, 4)`, for every picture."""

    weight: torch.Tensor

    def forward(
        self,
        proposals: torch.Tensor,
        features: Sequence[torch.Tensor],
        picture_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> torch.Tensor:
        """One layer of boxes, `(1, B, N, 4)`."""
        return self.weight.expand(1, len(picture_sizes), -1, -1)


class LearnedProposalBoxes(SameProposalBoxes):
    """The same learned boxes for every picture.

    Args:
        num_proposals: `N`.
        start: what they are before training: "picture", each is the whole picture, or "grid", each is a cell.
    """

    def __init__(self, num_proposals: int, start: str = "picture") -> None:
        super().__init__()
        if start not in ("picture", "grid"):
            raise UserError(f"proposal boxes start as {start!r}", "start may be picture or grid")
        boxes = cells(num_proposals) if start == "grid" else whole_pictures(num_proposals)
        self.weight = nn.Parameter(boxes)


class WholePictureBoxes(SameProposalBoxes):
    """The whole picture for every proposal, always: what learned boxes are worth, by leaving them out.

    Args:
        num_proposals: `N`.
    """

    def __init__(self, num_proposals: int) -> None:
        super().__init__()
        self.register_buffer("weight", whole_pictures(num_proposals), persistent=False)


def whole_pictures(count: int) -> torch.Tensor:
    """`count` times the whole picture, `(count, 4)`, cxcywh."""
    return torch.tensor([[0.5, 0.5, 1.0, 1.0]]).repeat(count, 1)


def cells(count: int) -> torch.Tensor:
    """The first `count` cells of the smallest square grid over the picture that has so many, `(count, 4)`, cxcywh."""
    side = math.ceil(math.sqrt(count))
    centers = (torch.arange(side) + 0.5) / side
    grid = torch.stack(torch.meshgrid(centers, centers, indexing="xy"), -1).flatten(0, 1)
    return torch.cat([grid, torch.full_like(grid, 1 / side)], 1)[:count]
