"""ROIAlign for inference on a CPU, channels last: a bin is a weighted sum of cells, which one gather-and-sum does."""

import torch
import torch.nn.functional as F
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels, convert_boxes_to_pooler_format
from detectron2.structures import Boxes
from torch import nn


class GatheringPooler(nn.Module):
    """The same features as detectron2's `ROIPooler` of type ROIAlignV2 gives (He et al., "Mask R-CNN", ICCV 2017).

    torchvision's kernel goes through each channel's map by itself; here a cell's channels lie side by side and are
    summed at once. The maps of channels-last models are so already; others are copied.

    Args:
        pooler: whose settings are taken over; it works by itself where there is no CPU or where gradients are wanted.
    """

    def __init__(self, pooler: ROIPooler) -> None:
        super().__init__()
        self.pooler = pooler
        self.scales = tuple(level.spatial_scale for level in pooler.level_poolers)
        self.sampling_ratio = pooler.level_poolers[0].sampling_ratio

    def forward(self, features: list[torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """Features of all boxes, `(M, C, R, R)`, from one map `(B, C, h, w)` for each level."""
        if features[0].device.type != "cpu" or features[0].dtype != torch.float32 or torch.is_grad_enabled():
            return self.pooler(features, boxes)
        rows = convert_boxes_to_pooler_format(boxes)
        height, width = self.pooler.output_size
        pooled = features[0].new_zeros(len(rows), height * width, features[0].shape[1])
        levels = self._levels(boxes)
        for level, (feature, scale) in enumerate(zip(features, self.scales, strict=True)):
            chosen = (levels == level).nonzero()[:, 0]
            if len(chosen):
                self._pool_level(feature, rows[chosen], scale, pooled, chosen)
        return pooled.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def _levels(self, boxes: list[Boxes]) -> torch.Tensor:
        if len(self.scales) == 1:
            return torch.zeros(sum(map(len, boxes)), dtype=torch.int64)
        pooler = self.pooler
        sizes = (pooler.min_level, pooler.max_level, pooler.canonical_box_size, pooler.canonical_level)
        return assign_boxes_to_levels(boxes, *sizes)

    def _pool_level(
        self, feature: torch.Tensor, rows: torch.Tensor, scale: float, pooled: torch.Tensor, places: torch.Tensor
    ) -> None:
        cells = feature.permute(0, 2, 3, 1).flatten(0, 2)
        height, width = feature.shape[-2:]
        # the order of torchvision's operations: other rounding moves samples at the picture's edge in or out
        corners = rows[:, 1:] * scale - 0.5
        sizes = (corners[:, 2:] - corners[:, :2]) / corners.new_tensor(self.pooler.output_size[::-1])
        first = rows[:, 0].long() * (height * width)
        for chosen, samples_x, samples_y in self._by_samples(sizes):
            columns, column_weights = _samples(corners[chosen, 0], sizes[chosen, 0], width, samples_x, self._bins(1))
            lines, line_weights = _samples(corners[chosen, 1], sizes[chosen, 1], height, samples_y, self._bins(0))
            by_line, by_column = (len(chosen), -1, 1, 2 * samples_y, 1), (len(chosen), 1, -1, 1, 2 * samples_x)
            starts = first[chosen, None, None] + lines * width
            index = starts.view(by_line) + columns.view(by_column)
            weights = line_weights.view(by_line) * (column_weights / (samples_x * samples_y)).view(by_column)
            bins = F.embedding_bag(
                index.flatten(3).flatten(0, 2), cells, mode="sum", per_sample_weights=weights.flatten(3).flatten(0, 2)
            )
            pooled[places[chosen]] = bins.view(len(chosen), -1, cells.shape[1])

    def _bins(self, axis: int) -> torch.Tensor:
        return torch.arange(self.pooler.output_size[axis])

    def _by_samples(self, sizes: torch.Tensor) -> list[tuple[torch.Tensor, int, int]]:
        """Boxes that take as many samples in each bin: their places, and the numbers along x and y."""
        if self.sampling_ratio > 0:
            return [(torch.arange(len(sizes)), self.sampling_ratio, self.sampling_ratio)]
        # as many as cells in a bin; boxes without area have none
        counts = sizes.nan_to_num(0).ceil().clamp(min=0).long()
        kinds, kind_of = counts.unique(dim=0, return_inverse=True)
        return [
            ((kind_of == kind).nonzero()[:, 0], x, y) for kind, (x, y) in enumerate(kinds.tolist()) if x > 0 and y > 0
        ]


def use_gathering_poolers(model: nn.Module) -> int:
    """Put `GatheringPooler` in the place of each pooler that it can stand in for; returns how many there are."""
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # not of a subclass, which may do something else
            if type(child) is ROIPooler and not isinstance(parent, GatheringPooler) and _is_aligned(child):
                setattr(parent, name, GatheringPooler(child))
                replaced += 1
    return replaced


def _is_aligned(pooler: ROIPooler) -> bool:
    return all(getattr(level, "aligned", False) for level in pooler.level_poolers)


def _samples(
    low: torch.Tensor, size: torch.Tensor, extent: int, samples: int, bins: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two cells around each sample along one side, and their weights, each `(boxes, bins * samples, 2)`.

    Args:
        low: (boxes,) where they begin, cells; size: of a bin; extent: of the feature map.
    """
    low, size = low[:, None, None], size[:, None, None]
    at = (low + bins[:, None] * size + (torch.arange(samples) + 0.5) * size / samples).flatten(1)
    inside = (at >= -1) & (at <= extent)
    at = at.nan_to_num().clamp(0, extent - 1)
    below = at.long()
    fraction = at - below
    cells = torch.stack([below, (below + 1).clamp(max=extent - 1)], -1)
    return cells, torch.stack([1 - fraction, fraction], -1) * inside[..., None]
