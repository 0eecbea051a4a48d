"""Where in the image a feature is: encodings of coordinates relative to the image without its padding."""

import math
from collections.abc import Sequence

import torch
from torch import nn


class SinePositionEncoding(nn.Module):
    """Sines and cosines of row and column (Carion et al., ECCV 2020, appendix A.4). No parameters.

    Args:
        dim: of the encoding, a multiple of 4; the first half is for the row.
        temperature: ratio of the longest wave to the shortest.
    """

    def __init__(self, dim: int, temperature: float = 10000.0) -> None:
        super().__init__()
        waves = dim // 4
        frequencies = 2 * math.pi * temperature ** (-torch.arange(waves) / waves)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Encode `(..., 2)`, row and column from 0 to 1, as `(..., dim)`."""
        angles = positions[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class LearnedPositionEncoding(nn.Module):
    """Learned vectors at `num_places` rows and columns, linearly interpolated between them.

    Args:
        dim: of the encoding, even; the first half is for the row.
        num_places: along each side of the image.
    """

    def __init__(self, dim: int, num_places: int = 50) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(num_places, dim // 2).uniform_())
        self.columns = nn.Parameter(torch.empty(num_places, dim // 2).uniform_())

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Encode `(..., 2)`, row and column from 0 to 1, as `(..., dim)`."""
        row, column = positions.unbind(-1)
        return torch.cat([_interpolate(self.rows, row), _interpolate(self.columns, column)], -1)


def sizes_tensor(
    image_sizes: torch.Tensor | Sequence[Sequence[int] | torch.Tensor], device: torch.device
) -> torch.Tensor:
    """Height and width of each image as `(B, 2)`, float32; they stay open where a graph of the model is traced."""
    if isinstance(image_sizes, torch.Tensor):
        return image_sizes.to(device, torch.float32)
    # one by one, since tracing gives tensors, then one copy to the device
    return torch.stack([torch.as_tensor(size) for size in image_sizes]).to(device, torch.float32, non_blocking=True)


POSITION_ENCODINGS = {"sine": SinePositionEncoding, "learned": LearnedPositionEncoding}


def _interpolate(table: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    place = position.clamp(0, 1) * (len(table) - 1)
    below = place.floor().long().clamp(max=len(table) - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[..., None])
