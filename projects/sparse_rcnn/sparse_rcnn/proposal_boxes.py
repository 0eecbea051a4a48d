"""Where the cascade starts to look: boxes that are learned, or the whole picture.

A source of proposal boxes is called with the proposals' features `(N, D)`, the feature maps (one `(B, D, h, w)` per
level), the sizes of the pictures (height, width) without padding and the padded size. It returns boxes as
`(layers, B, N, 4)`, (center x, center y, width, height) relative to each picture; the last layer starts the cascade.
"""

from collections.abc import Sequence

import torch
from torch import nn

WHOLE_PICTURE = (0.5, 0.5, 1.0, 1.0)


class LearnedProposalBoxes(nn.Module):
    """The same learned boxes for every picture; before training, each is the whole picture.

    Args:
        num_proposals: `N`.
    """

    def __init__(self, num_proposals: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([WHOLE_PICTURE]).repeat(num_proposals, 1))

    def forward(
        self,
        proposals: torch.Tensor,
        features: Sequence[torch.Tensor],
        picture_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> torch.Tensor:
        """One layer of boxes, `(1, B, N, 4)`."""
        return self.weight.expand(1, len(picture_sizes), -1, -1)


class WholePictureBoxes(nn.Module):
    """The whole picture for every proposal, always: what learned boxes are worth, by leaving them out.

    Args:
        num_proposals: `N`.
    """

    def __init__(self, num_proposals: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([WHOLE_PICTURE]).repeat(num_proposals, 1), persistent=False)

    def forward(
        self,
        proposals: torch.Tensor,
        features: Sequence[torch.Tensor],
        picture_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> torch.Tensor:
        """One layer of boxes, `(1, B, N, 4)`."""
        return self.weight.expand(1, len(picture_sizes), -1, -1)
