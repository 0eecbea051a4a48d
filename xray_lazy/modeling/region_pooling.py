"""ROIAlign of several levels: on a CPU a gather-and-sum of cells, on a GPU without asking which boxes are where."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import nn


class RegionPooler(ROIPooler):
    """detectron2's pooler with the same features (He et al., "Mask R-CNN", ICCV 2017), for which no GPU is waited for.

    On a CPU, torchvision's kernel goes through each channel's map by itself, and its backward pass is single-threaded.
    Here a cell's channels lie side by side and are summed at once. The maps of channels-last models are so already;
    others are copied, see `channels_together`. On a GPU, each level takes all boxes, of which those of other levels are
    moved out of the map, where the kernel ends at once and gives zeros. What isn't ROIAlignV2 is left to detectron2's
    pooler.
    """

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """Features of all boxes, `(M, C, R, R)`, from one map `(B, C, h, w)` for each level."""
        is_quick_on_cpu = _is_run_on_cpu(x) and x[0].dtype == torch.float32
        if _is_exported() or not is_aligned(self) or (x[0].device.type == "cpu" and not is_quick_on_cpu):
            return super().forward(x, box_lists)
        rois = pooler_boxes(box_lists)
        levels = self._levels(box_lists)
        if not is_quick_on_cpu:
            return self._of_all_levels(x, rois, levels)
        height, width = self.output_size
        pooled = x[0].new_zeros(len(rois), height * width, x[0].shape[1])
        for level, feature in enumerate(x):
            of_level = (levels == level).nonzero()[:, 0]
            cells = feature.permute(0, 2, 3, 1).flatten(0, 2)
            for chosen, index, weights in self._cells_of_bins(rois[of_level], feature.shape, level):
                bins = F.embedding_bag(index, cells, mode="sum", per_sample_weights=weights)
                pooled[of_level[chosen]] = bins.view(len(chosen), *pooled.shape[1:])
        return pooled.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    def _of_all_levels(self, features: list[torch.Tensor], rois: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        pooled = []
        for level, (pooler, feature) in enumerate(zip(self.level_poolers, features, strict=True)):
            pixels = 1 / pooler.spatial_scale
            outside = F.pad(rois.new_full((4,), -16 * pixels), (1, 0))  # without extent: one sample in each bin
            pooled.append(pooler(feature, rois.where((levels == level)[:, None], outside)))
        total = pooled[0]
        for other in pooled[1:]:
            total += other
        return total

    def _levels(self, boxes: list[Boxes]) -> torch.Tensor:
        sizes = (self.canonical_box_size, self.canonical_level)
        levels = assign_boxes_to_levels(boxes, self.min_level, self.max_level, *sizes)
        return levels.clamp(0, len(self.level_poolers) - 1)  # undefined for boxes that are not finite

    @torch.no_grad()
    def _cells_of_bins(
        self, rois: torch.Tensor, shape: torch.Size, level: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Which boxes, the cells that each of their bins sums up, and those cells' weights, both `(bins, cells)`.

        Args:
            rois: (M, 5) number of the image and xyxy pixels; shape: of the feature map.
        """
        (height, width), (bins_y, bins_x) = shape[-2:], self.output_size
        # the order of torchvision's operations: other rounding moves samples at the image's edge in or out
        corners = rois[:, 1:] * self.level_poolers[level].spatial_scale - 0.5
        sizes = (corners[:, 2:] - corners[:, :2]) / corners.new_tensor([bins_x, bins_y])
        first = rois[:, 0].int() * (height * width)
        for chosen, samples_x, samples_y in self._by_samples(sizes, level):
            columns, across = _samples(corners[chosen, 0], sizes[chosen, 0], width, samples_x, bins_x)
            lines, down = _samples(corners[chosen, 1], sizes[chosen, 1], height, samples_y, bins_y)
            by_line, by_column = (len(chosen), bins_y, 1, 2 * samples_y, 1), (len(chosen), 1, bins_x, 1, 2 * samples_x)
            starts = first[chosen, None, None] + lines * width
            index = starts.view(by_line) + columns.view(by_column)
            weights = down.view(by_line) * (across / (samples_x * samples_y)).view(by_column)
            yield chosen, index.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)

    def _by_samples(self, sizes: torch.Tensor, level: int) -> Iterator[tuple[torch.Tensor, int, int]]:
        """Boxes that take as many samples in each bin: their places, and the numbers along x and y.

        At least once, with no boxes: each map is to have a gradient, for which data-parallel training waits.
        """
        fixed = self.level_poolers[level].sampling_ratio
        if fixed > 0:
            yield torch.arange(len(sizes)), fixed, fixed
            return
        # as many as cells in a bin; boxes without area have none
        counts = sizes.nan_to_num(0).ceil().clamp(min=0).long()
        there = counts.all(1).nonzero()[:, 0]
        if not len(there):
            yield there, 1, 1
            return
        kinds, kind_of = counts[there].unique(dim=0, return_inverse=True)
        for kind, (x, y) in enumerate(kinds.tolist()):
            yield there[kind_of == kind], x, y


def pooler_boxes(boxes: Sequence[Boxes]) -> torch.Tensor:
    """Boxes of several images with the number of their image: `(M, 5)`, number and xyxy pixels."""
    return torch.cat([F.pad(of_image.tensor, (1, 0), value=number) for number, of_image in enumerate(boxes)])


def pool_together(pooler: ROIPooler, features: Sequence[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
    """The features `(B * N, C, R, R)` of as many boxes `(B, N, 4)` in each image; B stays open in an exported graph."""
    if not _is_exported():
        return pooler(list(features), [Boxes(of_image) for of_image in boxes])
    image = torch.arange(boxes.shape[0], device=boxes.device)[:, None].expand_as(boxes[..., 0])
    return pool_apart(pooler, features, image.flatten(), boxes.flatten(0, 1))


def pool_apart(
    pooler: ROIPooler, features: Sequence[torch.Tensor], image: torch.Tensor, boxes: torch.Tensor
) -> torch.Tensor:
    """detectron2's `ROIPooler` for boxes `(M, 4)` of the images `(M,)`, in any order, by what formats have."""
    regions = torch.cat([image[:, None].to(boxes.dtype), boxes], 1)
    settings = (pooler.min_level, pooler.max_level, pooler.canonical_box_size, pooler.canonical_level)
    levels = assign_boxes_to_levels([Boxes(boxes)], *settings)
    pooled = boxes.new_zeros(boxes.shape[0], features[0].shape[1], *pooler.output_size)
    for level, (of_level, feature) in enumerate(zip(pooler.level_poolers, features, strict=True)):
        [places] = (levels == level).nonzero(as_tuple=True)
        pooled.index_put_((places,), of_level(feature, regions[places]))
    return pooled


def channels_together(features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Feature maps as a `RegionPooler` takes them without a copy: for those that are pooled from several times."""
    if not _is_run_on_cpu(features):
        return list(features)
    return [feature.contiguous(memory_format=torch.channels_last) for feature in features]


def use_region_poolers(model: nn.Module) -> int:
    """Put `RegionPooler` in the place of each pooler that it can replace; returns how many there are."""
    replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # not of a subclass, which may do something else
            if type(child) is ROIPooler and is_aligned(child):
                setattr(parent, name, _like(child))
                replaced += 1
    return replaced


def is_aligned(pooler: ROIPooler) -> bool:
    """Whether it is of type ROIAlignV2."""
    return all(getattr(level, "aligned", False) for level in pooler.level_poolers)


def _is_run_on_cpu(features: Sequence[torch.Tensor]) -> bool:
    return features[0].device.type == "cpu" and not _is_exported()


def _is_exported() -> bool:
    # an exported graph is to have ROIAlign, for images of any size
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def _like(pooler: ROIPooler) -> RegionPooler:
    levels = pooler.level_poolers
    scales, sizes = [level.spatial_scale for level in levels], (pooler.canonical_box_size, pooler.canonical_level)
    return RegionPooler(pooler.output_size, scales, levels[0].sampling_ratio, "ROIAlignV2", *sizes)


def _samples(
    low: torch.Tensor, size: torch.Tensor, extent: int, samples: int, bins: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two cells around each sample along one side, and their weights, each `(boxes, bins * samples, 2)`.

    Args:
        low: (boxes,) where they begin, cells; size: of a bin; extent: of the feature map.
    """
    low, size = low[:, None, None], size[:, None, None]
    at = (low + torch.arange(bins)[:, None] * size + (torch.arange(samples) + 0.5) * size / samples).flatten(1)
    inside = (at >= -1) & (at <= extent)
    at = at.nan_to_num().clamp(0, extent - 1)
    below = at.int()
    fraction = at - below
    cells = torch.stack([below, (below + 1).clamp(max=extent - 1)], -1)
    return cells, torch.stack([1 - fraction, fraction], -1) * inside[..., None]
