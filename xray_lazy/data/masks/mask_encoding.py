"""Masks as COCO's run-length encoding: of bitmaps, and of mask probabilities within boxes without making a bitmap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as mask_util
from torch.nn import functional as F

THRESHOLD = 0.5  # detectron2's: pixels of at least this probability belong to a mask
# Values of mask rows in columns of pixels that are handled at a time: what fits into a CPU's cache.
VALUES_AT_ONCE = {"cpu": 2**17}
VALUES_AT_ONCE_ELSEWHERE = 2**24
# Pixels at a time where a column is pasted pixel by pixel.
PIXELS_AT_ONCE = 2**20
# Bitmaps that are unpacked at a time: a hundred of 1920x1080 would be 200 MB.
BITMAPS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class EncodedMasks:
    """N binary masks of one size as COCO's compressed RLE, in one piece of memory. A field of detectron2's Instances.

    size: (height, width) in pixels; counts: the RLEs' text, one behind the other; ends: (N,) where each ends in it.
    """

    size: tuple[int, int]
    counts: bytes
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[dict]:
        """Each mask as JSON has it: `{"size": [height, width], "counts": text}`."""
        text, start = self.counts.decode("ascii"), 0
        for end in self.ends.tolist():
            yield {"size": list(self.size), "counts": text[start:end]}
            start = end

    def __getitem__(self, item: Any) -> "EncodedMasks":
        """The masks of a slice, of a bool mask `(N,)` or of indices."""
        chosen = np.arange(len(self))[item.cpu().numpy() if isinstance(item, torch.Tensor) else item]
        starts = np.concatenate([[0], self.ends[:-1]]).astype(np.int64)
        parts = [self.counts[starts[index] : self.ends[index]] for index in np.atleast_1d(chosen)]
        return EncodedMasks.join(self.size, parts)

    @classmethod
    def join(cls, size: tuple[int, int], counts: list[bytes]) -> "EncodedMasks":
        """From the `counts` of single masks."""
        return cls((size[0], size[1]), b"".join(counts), np.cumsum([len(part) for part in counts], dtype=np.uint32))

    def bitmaps(self) -> np.ndarray:
        """(N, height, width) bool; 2 MB for each mask of 1920x1080."""
        if not len(self):
            return np.zeros((0, *self.size), dtype=bool)
        return mask_util.decode(list(self)).transpose(2, 0, 1).astype(bool)


def encode_box_masks(masks: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> EncodedMasks:
    """Paste masks into an image and encode them, without the image: on any device, only outlines leave it.

    The same to the byte as detectron2's `paste_masks_in_image` at threshold 0.5 (bilinear; He et al., "Mask R-CNN",
    ICCV 2017) and pycocotools' `encode`. Down a column of the image a pasted mask is piecewise linear: between two
    rows of the M x M mask it crosses the threshold once at most, so M + 1 places say where the column's runs begin and
    end. Columns in which rounding could decide are sampled pixel by pixel, as detectron2 does.

    Args:
        masks: (N, M, M) or (N, 1, M, M) probabilities.
        boxes: (N, 4) xyxy pixels of the image. A box without area, or that is not finite, has an empty mask.
    """
    masks = masks.detach().reshape(len(masks), *masks.shape[-2:]).float()
    boxes = boxes.detach().to(masks.device).float()
    positions, box = _edges(masks, boxes, height, width)
    return encode_edges(positions, np.bincount(box, minlength=len(masks)), (height, width))


def encode_bitmaps(bitmaps: torch.Tensor) -> EncodedMasks:
    """Bitmaps (N, H, W), bool or what is not 0, as compressed RLEs."""
    counts = []
    for part in bitmaps.detach().split(BITMAPS_AT_ONCE):
        # RLE runs down the columns: transposing before the copy to the CPU gives that order without another copy
        columns = part.bool().mT.contiguous().cpu().numpy().view(np.uint8)
        counts += [mask["counts"] for mask in mask_util.encode(columns.T)]
    return EncodedMasks.join((bitmaps.shape[1], bitmaps.shape[2]), counts)


def encode_edges(positions: np.ndarray, per_mask: np.ndarray, size: tuple[int, int]) -> EncodedMasks:
    """Masks whose pixels, counted down the columns, change between 0 and 1 at `positions`, ascending in each mask.

    Args:
        positions: of all masks, one behind the other; a pixel that is named an even number of times does not change.
        per_mask: (N,) how many of them each mask has.
    """
    height, width = size
    pixels = height * width
    mask = np.repeat(np.arange(len(per_mask)), per_mask)
    keep = _odd_times(mask * (pixels + 1) + positions) & (positions < pixels)
    # behind each mask's positions comes the end of the image: the differences are the runs
    counts = np.bincount(mask[keep], minlength=len(per_mask)) + 1
    last = np.cumsum(counts) - 1
    ends = np.full(len(mask[keep]) + len(per_mask), pixels)
    is_position = np.ones(len(ends), bool)
    is_position[last] = False
    ends[is_position] = positions[keep]
    runs = np.diff(ends, prepend=0)
    first = last - counts + 1
    runs[first] = ends[first]
    split = zip(first.tolist(), (last + 1).tolist(), strict=True)
    encoded = [{"size": [height, width], "counts": runs[start:end]} for start, end in split]
    # compressing the runs is pycocotools' own work, which takes arrays, too
    return EncodedMasks.join(
        size, [rle["counts"] for rle in mask_util.frPyObjects(encoded, height, width)] if encoded else []
    )


def _odd_times(values: np.ndarray) -> np.ndarray:
    """Which of ascending values (N,) to keep, so that those that are there an odd number of times are there once."""
    keep = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=keep[1:])
    if not keep.all():
        starts = np.flatnonzero(keep)
        keep[starts] = np.diff(starts, append=len(values)) % 2 == 1
    return keep


def _edges(masks: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, counted down the columns, from which on a pasted mask is another than before, and their masks' index."""
    size = masks.shape[-1]
    box, x = _columns_of(boxes, height, width)
    # how far rounding of coordinates and sums may move a value away from what grid_sample makes of it
    tolerance = 1e-6 * (size + 1)
    crossings = [_crossings(masks, boxes, *part, tolerance) for part in _in_parts(box, x, size)]
    if not crossings:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    column, knot, above, below, unsure = (np.concatenate(values) for values in zip(*crossings, strict=True))
    # from here in float64: a row of a large image needs more digits than float32 has
    top, bottom = boxes[:, 1::2].cpu().numpy().astype(np.float64).T
    scale = (bottom - top) / size  # pixels of the image for a row of the mask
    box_of, x_of = box.cpu().numpy(), x.cpu().numpy()
    owner = box_of[column]
    row = (knot - 0.5 + above / (above - below)) * scale[owner] + (top - 0.5)[owner]
    nearest = np.abs(row - np.rint(row)) * np.abs(above - below)
    unsure[column[~(nearest >= (tolerance * scale)[owner])]] = True
    positions = x_of[column] * height + np.clip(np.ceil(np.nan_to_num(row)), 0, height).astype(np.int64)
    again = np.flatnonzero(unsure)
    if not len(again):
        return positions, owner
    sure = ~unsure[column]
    chosen = torch.from_numpy(again).to(boxes.device)
    column, row = _sampled_edges(masks, boxes, box[chosen], x[chosen], height)
    more = x_of[again][column] * height + row
    owner, positions = np.concatenate([owner[sure], box_of[again][column]]), np.concatenate([positions[sure], more])
    order = np.argsort(owner * (height * width + 1) + positions, kind="stable")
    return positions[order], owner[order]


def _columns_of(boxes: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """For each column of pixels that a box can touch, box after box: the box's index and the column's x, both (T,)."""
    usable = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    left, right = _window(boxes[:, 0], boxes[:, 2], width)
    counts = ((right - left).clamp(min=0) * usable).long()
    box = torch.repeat_interleave(counts)
    first = counts.cumsum(0) - counts
    return box, torch.arange(len(box), device=box.device) + (left.long() - first)[box]


def _window(low: torch.Tensor, high: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First pixel that a box can touch along an axis, and the one behind the last: those that detectron2 pastes."""
    low, high = low.nan_to_num().floor() - 1, high.nan_to_num().ceil() + 1
    return low.clamp(0, size), high.clamp(0, size)


def _in_parts(box: torch.Tensor, x: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
    at_once = max(1, VALUES_AT_ONCE.get(box.device.type, VALUES_AT_ONCE_ELSEWHERE) // (size + 2))
    for start in range(0, len(box), at_once):
        yield box[start : start + at_once], x[start : start + at_once], start


def _crossings(
    masks: torch.Tensor, boxes: torch.Tensor, box: torch.Tensor, x: torch.Tensor, start: int, tolerance: float
) -> tuple[np.ndarray, ...]:
    """Between which rows of its mask a column crosses the threshold.

    Args:
        box, x: (T,) each column's box, and its place in the image.
        start: number of the first column.

    Returns:
        For each crossing the column's number, the row of the mask before it with 0 for the one outside, and how far
        above the threshold the values before and after it are; for each column whether one is within `tolerance`.
    """
    size, first = masks.shape[-1], int(box[0])
    # (N, columns, rows), around each mask a row and two columns of zeros
    profiles = F.pad(masks[first : int(box[-1]) + 1].mT, (1, 1, 2, 2)) - THRESHOLD
    place = _in_mask(x, boxes[:, 0][box], boxes[:, 2][box], size)
    before = place.floor()
    index = (box - first) * (size + 4) + before.clamp(-2, size).long() + 2
    profiles = profiles.flatten(0, 1)
    values = torch.lerp(profiles[index], profiles[index + 1], (place - before)[:, None])
    unsure = ~(values.abs().amin(1) >= tolerance)  # so that what is not a number is sampled, too
    inside = values >= 0
    crossing = (inside[:, 1:] != inside[:, :-1]).flatten().nonzero()[:, 0]
    column = crossing.div(size + 1, rounding_mode="floor")
    values, crossing = values.flatten(), crossing + column  # a column has one value more than it has gaps
    found = (column + start, crossing - column * (size + 2), values[crossing], values[crossing + 1], unsure)
    return tuple(value.cpu().numpy() for value in found)


def _sampled_edges(
    masks: torch.Tensor, boxes: torch.Tensor, box: torch.Tensor, x: torch.Tensor, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Number of the column and row of each edge, by sampling all pixels with detectron2's function and numbers."""
    size = masks.shape[-1]
    first, last = (value.long() for value in _window(boxes[:, 1], boxes[:, 3], height))
    longest = max(1, int((last - first)[box].max()))
    at_once = max(1, PIXELS_AT_ONCE // max(longest, size * size))
    columns, rows = [], []
    for start in range(0, len(box), at_once):
        own = box[start : start + at_once]
        y = first[own][:, None] + torch.arange(longest, device=box.device)
        left, top, right, bottom = boxes[own].T
        across = _grid(x[start : start + at_once], left, right)[:, None].expand_as(y)
        grid = torch.stack([across, _grid(y, top[:, None], bottom[:, None])], dim=-1)[:, :, None]
        values = F.grid_sample(masks[own][:, None], grid, align_corners=False)[:, 0, :, 0]
        inside = F.pad((values >= THRESHOLD) & (y < last[own][:, None]), (1, 1))
        column, row = (inside[:, 1:] != inside[:, :-1]).nonzero(as_tuple=True)
        columns.append(column + start)
        rows.append(row + first[own][column])
    return torch.cat(columns).cpu().numpy(), torch.cat(rows).cpu().numpy()


def _grid(pixel: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Centres of pixels as grid_sample counts, -1 and 1 at the box's edges; operations in detectron2's order."""
    return (pixel.float() + 0.5 - low) / (high - low) * 2 - 1


def _in_mask(pixel: torch.Tensor, low: torch.Tensor, high: torch.Tensor, size: int) -> torch.Tensor:
    """Centres of pixels in cells of the mask, as grid_sample computes it: 0 is the centre of the first."""
    return ((_grid(pixel, low, high) + 1) * size - 1) / 2
