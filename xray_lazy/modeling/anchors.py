"""detectron2's anchors, made where they are used."""

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator


class AnchorGenerator(DefaultAnchorGenerator):
    """The same anchors, for which no numbers are copied to a GPU: the host would wait twice for each level."""

    def _grid_anchors(self, grid_sizes: list[list[int]]) -> list[torch.Tensor]:
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return super()._grid_anchors(grid_sizes)  # its sizes stay open
        return [
            (self._corners(size, stride, cells) + cells).reshape(-1, 4)
            for size, stride, cells in zip(grid_sizes, self.strides, self.cell_anchors, strict=True)
        ]

    def _corners(self, size: list[int], stride: int, like: torch.Tensor) -> torch.Tensor:
        """Where the cells of a feature map are, as `(cells, 1, 4)`: x, y, x, y."""
        first, options = self.offset * stride, {"dtype": torch.float32, "device": like.device}
        y, x = (torch.arange(first, length * stride, stride, **options) for length in size)
        y, x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([x, y, x, y], -1).view(-1, 1, 4)
