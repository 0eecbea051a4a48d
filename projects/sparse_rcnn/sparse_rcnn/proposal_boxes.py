"""Where the cascade starts to look: boxes that are learned, or the whole image.

A source of proposals is called with learned queries `(N, D)`, the feature maps (one `(B, D, h, w)` per level), the
sizes of the images (height, width) without padding and the padded size. It returns `Proposals`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.ops import box_convert

from sparse_rcnn.position_encoding import sizes_tensor
from xray_lazy.errors import UserError


@dataclass
class Proposals:
    """What the cascade starts with, for `B` images.

    Attributes:
        boxes: `(layers, B, N, 4)`, xyxy pixels, after each layer of their source; the last layer starts the cascade.
        queries: `(B, N, D)`, what is known of each.
        logits: `(B, N, num_classes)`, of proposals that learn classes one to one, too; else None.
        dense: what a source that looks at every cell needs for its own losses.
    """

    boxes: torch.Tensor
    queries: torch.Tensor
    logits: torch.Tensor | None = None
    dense: Any = None

    @property
    def start(self) -> torch.Tensor:
        """The cascade's first boxes, `(B, N, 4)`; those that learn by themselves learn nothing from the cascade."""
        return self.boxes[-1] if self.logits is None else self.boxes[-1].detach()


class SameProposalBoxes(nn.Module):
    """The boxes of `weight`, `(N, 4)`, for every image."""

    weight: torch.Tensor

    def forward(
        self,
        learned: torch.Tensor,
        features: Sequence[torch.Tensor],
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> Proposals:
        """One layer of boxes, with the learned queries."""
        sizes = sizes_tensor(image_sizes, self.weight.device)
        count = sizes.shape[0]  # which stays open in a traced graph
        boxes = self.weight.expand(1, count, -1, -1)
        return Proposals(in_pixels(boxes, sizes), learned.expand(count, -1, -1))


class LearnedProposalBoxes(SameProposalBoxes):
    """The same learned boxes for every image.

    Args:
        num_proposals: `N`.
        start: what they are before training: "picture", each is the whole image, or "grid", each is a cell.
    """

    def __init__(self, num_proposals: int, start: str = "picture") -> None:
        super().__init__()
        if start not in ("picture", "grid"):
            raise UserError(f"proposal boxes start as {start!r}", "start may be picture or grid")
        boxes = cells(num_proposals) if start == "grid" else whole_images(num_proposals)
        self.weight = nn.Parameter(boxes)


class WholePictureBoxes(SameProposalBoxes):
    """The whole image for every proposal, always: what learned boxes are worth, by leaving them out.

    Args:
        num_proposals: `N`.
    """

    def __init__(self, num_proposals: int) -> None:
        super().__init__()
        self.register_buffer("weight", whole_images(num_proposals), persistent=False)


def in_pixels(boxes: torch.Tensor, image_sizes: torch.Tensor | Sequence[tuple[int, int]]) -> torch.Tensor:
    """Boxes `(..., B, N, 4)`, cxcywh relative to their image, as xyxy pixels."""
    scales = sizes_tensor(image_sizes, boxes.device).flip(1).repeat(1, 2)
    return box_convert(boxes.float(), "cxcywh", "xyxy") * scales[:, None]


def whole_images(count: int) -> torch.Tensor:
    """`count` times the whole image, `(count, 4)`, cxcywh."""
    return torch.tensor([[0.5, 0.5, 1.0, 1.0]]).repeat(count, 1)


def cells(count: int) -> torch.Tensor:
    """The first `count` cells of the smallest square grid over the image with that many cells, `(count, 4)`, cxcywh."""
    side = math.ceil(math.sqrt(count))
    centers = (torch.arange(side) + 0.5) / side
    grid = torch.stack(torch.meshgrid(centers, centers, indexing="xy"), -1).flatten(0, 1)
    return torch.cat([grid, torch.full_like(grid, 1 / side)], 1)[:count]
