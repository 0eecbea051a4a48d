"""Masks of an image's objects within their own extent, from the reading process to the loss on the GPU."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks
from torchvision.ops import roi_align

from xray_lazy.data.masks.mask_rasters import MaskWindow

# pixels that are float32 at a time while masks are cropped, 128 MiB; a single mask may have more
CANVAS = 2**25


class PlacedMasks(BitMasks):
    """detectron2's `BitMasks`, of which only the windows exist that have something in them: an X-ray item covers a few
    per cent of an image.

    Entries that are picked share the windows with all others. Whoever asks for `tensor` gets bitmaps of the whole
    image, from which everything is done from then on.
    """

    @classmethod
    def place(cls, windows: Sequence[MaskWindow], size: tuple[int, int]) -> "PlacedMasks":
        """Masks of an image of `size` (height, width)."""
        bits = [window.bits.astype(bool, copy=False).ravel() for window in windows]
        flat = torch.from_numpy(np.concatenate(bits) if bits else np.zeros(0, bool))
        return cls._of(flat, [(left, top, *bits.shape) for left, top, bits in windows], size)

    @classmethod
    def _of(
        cls,
        bits: torch.Tensor,
        windows: list[tuple[int, int, int, int]],
        size: tuple[int, int],
        chosen: torch.Tensor | None = None,
    ) -> "PlacedMasks":
        """From windows (left, top, height, width), their bits one after the other, and which window each entry has."""
        masks = cls.__new__(cls)
        masks._bits, masks._windows, masks._chosen, masks.image_size = bits, windows, chosen, torch.Size(size)
        return masks

    _windows: list[tuple[int, int, int, int]] | None = None

    @property
    def tensor(self) -> torch.Tensor:
        if self._windows is not None:
            # zeros of the system take no memory before they are written to; most of them never are
            bitmaps = torch.zeros((len(self._windows), *self.image_size), dtype=torch.bool, device=self._bits.device)
            for bitmap, (left, top, height, width), bits in self._parts(bitmaps):
                bitmap[top : top + height, left : left + width] = bits
            self.tensor = bitmaps if self._chosen is None else bitmaps[self._chosen]
        return self._tensor

    @tensor.setter
    def tensor(self, bitmaps: torch.Tensor) -> None:
        self._tensor, self._windows = bitmaps, None

    def on_tensors(self, function: Callable[[torch.Tensor], torch.Tensor]) -> BitMasks:
        """With `function`, which only moves tensors, applied to what they are made of."""
        if self._windows is None:
            return BitMasks(function(self._tensor))
        chosen = None if self._chosen is None else function(self._chosen)
        return self._of(function(self._bits), self._windows, self.image_size, chosen)

    def to(self, *args, **kwargs) -> BitMasks:
        return self.on_tensors(lambda tensor: tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self._tensor.device if self._windows is None else self._bits.device

    def __len__(self) -> int:
        if self._windows is None:
            return super().__len__()
        return len(self._windows if self._chosen is None else self._chosen)

    def __getitem__(self, item: int | slice | torch.Tensor) -> BitMasks:
        if self._windows is None:
            return super().__getitem__(item)
        if isinstance(item, int):
            item = slice(item, item + 1 or None)
        elif isinstance(item, list):
            item = torch.tensor(item)
        if self._chosen is not None:
            chosen = self._chosen[item]
        elif isinstance(item, torch.Tensor) and item.dtype == torch.int64:
            chosen = item.to(self._bits.device)
        else:
            chosen = torch.arange(len(self), device=self._bits.device)[item]
        return self._of(self._bits, self._windows, self.image_size, chosen)

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """As `BitMasks` do, but that a share of a cell's pixels can be rounded otherwise."""
        if self._windows is None:
            return super().crop_and_resize(boxes, mask_size)
        boxes = boxes.float()
        chosen = torch.arange(len(self), device=boxes.device) if self._chosen is None else self._chosen
        covered = boxes.new_zeros(len(boxes), 1, mask_size, mask_size)
        for first, canvases, origins in self._canvases():
            place = chosen - first
            is_here = ((place >= 0) & (place < len(canvases)))[:, None]
            place = place.clamp(0, len(canvases) - 1)
            # boxes of others are moved out of the canvas, where all is 0
            moved = torch.where(is_here, boxes - origins[place], -16.0)
            rois = torch.cat([place[:, None].to(boxes.dtype), moved], 1)
            covered += roi_align(canvases, rois, mask_size, aligned=True)
        return covered[:, 0] >= 0.5

    def _canvases(self):
        """Some windows at a time as images `(N, 1, h, w)`, the number of the first, and x, y, x, y of their corners.

        As in the whole image, there is nothing around a window, or the image's edge.
        """
        windows = self._windows or []
        (height, width), start = self.image_size, 0
        while start < len(windows):
            tall = wide = stop = 0
            for stop in range(start, len(windows)):
                _, _, own_height, own_width = windows[stop]
                new = max(tall, min(own_height + 2, height)), max(wide, min(own_width + 2, width))
                if stop > start and (stop + 1 - start) * new[0] * new[1] > CANVAS:
                    break
                tall, wide = new
            else:
                stop = len(windows)
            canvases = torch.zeros(stop - start, tall, wide, device=self._bits.device)
            origins = []
            for canvas, (left, top, *own), bits in self._parts(canvases, start):
                y, x = _offset(top, own[0], tall, height), _offset(left, own[1], wide, width)
                canvas[y : y + own[0], x : x + own[1]] = bits
                origins.append([left - x, top - y] * 2)
            yield start, canvases[:, None], torch.tensor(origins).to(canvases.device, canvases.dtype, non_blocking=True)
            start = stop

    def _parts(self, images: torch.Tensor, start: int = 0):
        """Each image with the window and the bits `(height, width)` that it is for, from the window `start` on."""
        windows = self._windows or []
        ends = list(accumulate((h * w for _, _, h, w in windows), initial=0))
        for image, window, first in zip(images, windows[start:], ends[start:], strict=False):
            height, width = window[2:]
            yield image, window, self._bits[first : first + height * width].view(height, width)

    def __reduce_ex__(self, protocol: int) -> tuple:
        if self._windows is None:
            return BitMasks, (self._tensor,)
        packed = np.packbits(self._bits.cpu().numpy())
        return _unpack, (packed, self._windows, tuple(self.image_size), self._chosen)


def shares_at(masks: BitMasks, points: torch.Tensor) -> torch.Tensor:
    """How far each mask covers its points `(N, P, 2)`, x and y in pixels: `(N, P)`, bilinear between pixels."""
    if not isinstance(masks, PlacedMasks) or masks._windows is None:
        return _sampled(masks.tensor, points)
    chosen = torch.arange(len(masks), device=points.device) if masks._chosen is None else masks._chosen
    shares = points.new_zeros(points.shape[:2])
    for first, canvases, origins in masks._canvases():
        place = chosen - first
        is_here = ((place >= 0) & (place < len(canvases)))[:, None]
        place = place.clamp(0, len(canvases) - 1)
        shares += _sampled(canvases[place, 0], points - origins[place, None, :2]) * is_here
    return shares


def _sampled(masks: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Masks `(N, H, W)` at points `(N, P, 2)`; what is outside is 0."""
    sizes = points.new_tensor(masks.shape[:0:-1])
    grid = 2 * points[:, :, None] / sizes - 1
    return F.grid_sample(masks[:, None].to(points.dtype), grid, align_corners=False)[:, 0, :, 0]


def _unpack(packed: np.ndarray, windows: list[tuple], size: tuple[int, int], chosen: torch.Tensor | None) -> BitMasks:
    count = sum(height * width for _, _, height, width in windows)
    bits = torch.from_numpy(np.unpackbits(packed, count=count).view(bool))
    return PlacedMasks._of(bits, windows, size, chosen)


def _offset(start: int, extent: int, available: int, whole: int) -> int:
    """Where a window is on its canvas, along one axis: at the same edge as in the image, or one pixel away."""
    if start == 0:
        return 0
    return available - extent if start + extent == whole else 1
