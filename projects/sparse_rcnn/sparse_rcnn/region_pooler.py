"""Features of boxes for the cascade: those of ROIAlign, channels last."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes


@dataclass
class Cells:
    """The cells of all feature maps of a batch as rows of one matrix.

    Attributes:
        rows: `(cells, D)`, level by level and picture by picture.
        shapes: `(levels, 3)`, height, width and first row of each level.
    """

    rows: torch.Tensor
    shapes: torch.Tensor

    @classmethod
    def of(cls, features: Sequence[torch.Tensor]) -> "Cells":
        """From one `(B, D, h, w)` for each level."""
        rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in features])
        shapes, first = [], 0
        for level in features:
            height, width = level.shape[-2:]
            shapes.append((height, width, first))
            first += len(level) * height * width
        return cls(rows, torch.tensor(shapes, dtype=torch.int32, device=rows.device))


class RegionPooler(ROIPooler):
    """detectron2's pooler of type ROIAlignV2, with a `sampling_ratio` above 0; on a CPU much faster to train.

    A bin is the weighted sum of 4 * `sampling_ratio`**2 cells, so that on a CPU one gather-and-sum does the boxes of
    all levels: torchvision's backward pass is single-threaded there. On a GPU its kernels do the work.
    """

    def __init__(self, output_size: int, scales: Sequence[float], sampling_ratio: int, pooler_type: str, **sizes: int):
        super().__init__(output_size, scales, sampling_ratio, pooler_type, **sizes)
        self.scales, self.sampling_ratio = tuple(scales), sampling_ratio

    def prepare(self, features: Sequence[torch.Tensor]) -> Cells | list[torch.Tensor]:
        """What all calls with the same feature maps, one `(B, D, h, w)` for each level, have in common."""
        # a traced graph is to have ROIAlign, for pictures of any size
        by_cells = features[0].device.type == "cpu" and not torch.jit.is_tracing()
        return Cells.of(features) if by_cells else list(features)

    def forward(self, prepared: Cells | list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """Features of boxes `(B, N, 4)`, xyxy pixels, as `(B * N, R * R, D)`."""
        if not isinstance(prepared, Cells):
            pooled = super().forward(prepared, [Boxes(of_picture) for of_picture in boxes])
            return pooled.flatten(2).transpose(1, 2)
        with torch.no_grad():
            cells, weights = self._cells_of_bins(prepared.shapes, boxes)
        weights = weights.to(prepared.rows.dtype)
        bins = F.embedding_bag(cells, prepared.rows, mode="sum", per_sample_weights=weights)
        return bins.view(boxes.shape[0] * boxes.shape[1], self.output_size[0] ** 2, -1)

    def _cells_of_bins(self, shapes: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the cells that each bin sums up, and their weights, each `(B * N * R * R, 4 * samples**2)`."""
        bins, samples = self.output_size[0], self.sampling_ratio
        pictures = torch.arange(len(boxes), dtype=torch.int32).repeat_interleave(boxes.shape[1])
        boxes = boxes.flatten(0, 1)
        sizes = (self.canonical_box_size, self.canonical_level)
        levels = assign_boxes_to_levels([Boxes(boxes)], self.min_level, self.max_level, *sizes)
        levels = levels.clamp(0, len(self.scales) - 1)  # undefined for boxes that are not finite
        heights, widths, first = shapes[levels].unbind(-1)
        first = first + pictures * heights * widths
        boxes = boxes * boxes.new_tensor(self.scales)[levels, None]
        rows, row_weights = self._samples(boxes[:, 1], boxes[:, 3], heights)
        columns, column_weights = self._samples(boxes[:, 0], boxes[:, 2], widths)
        starts = first[:, None, None] + rows * widths[:, None, None]
        by_row, by_column = (-1, bins, 1, samples, 1, 2, 1), (-1, 1, bins, 1, samples, 1, 2)
        cells = starts.view(by_row) + columns.view(by_column)
        weights = row_weights.view(by_row) * (column_weights / samples**2).view(by_column)
        return cells.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)

    def _samples(
        self, low: torch.Tensor, high: torch.Tensor, extent: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The two cells around each sample along one side, and their weights, each `(P, R * samples, 2)`."""
        # the order of torchvision's operations: other rounding moves samples at the picture's edge in or out
        bins, samples = torch.arange(self.output_size[0]), torch.arange(self.sampling_ratio)
        low, high = low[:, None, None] - 0.5, high[:, None, None] - 0.5
        size = (high - low) / self.output_size[0]
        at = (low + bins[:, None] * size + (samples + 0.5) * size / self.sampling_ratio).flatten(1)
        inside = (at >= -1) & (at <= extent[:, None])
        last = extent[:, None] - 1
        at = at.nan_to_num().clamp(min=0).minimum(last)
        below = at.int()
        fraction = at - below
        cells = torch.stack([below, torch.minimum(below + 1, last)], -1)
        return cells, torch.stack([1 - fraction, fraction], -1) * inside[..., None]
