"""Detect in a long image, such as a belt with several bags, by tiles along its width, and merge what they share."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from xray_lazy.errors import UserError

# Of the smaller of two boxes of a class from two tiles: if the other one covers more, they show the same item.
SAME_ITEM = 0.5
# Of a tile's width: what ends nearer to an edge that another tile goes across may be cut there.
CUT_MARGIN = 0.01


class TiledModel(nn.Module):
    """A model that looks at tiles of each image, as high as the image, which overlap.

    Of an item in two tiles the detection counts that no edge of its tile cuts, else the one of the higher score. An
    item that is wider than the overlap may come in parts. Images that are not wider than a tile are seen as before.

    Args:
        model: has `inference(inputs, do_postprocess=False)`, as `TestTimeAugmentation` asks.
        width, overlap: of tiles, in pixels of the image's file; the overlap as wide as the widest item, or wider.
        batch_size: tiles per forward pass.

    Raises:
        UserError: the model has no such `inference`, or tiles don't overlap by 0 up to their width.
    """

    uses_detector_postprocess = True  # see `encoding_masks`

    def __init__(self, model: nn.Module, width: int, overlap: int, batch_size: int = 4):
        super().__init__()
        inference = getattr(model, "inference", None)
        if inference is None or "do_postprocess" not in inspect.signature(inference).parameters:
            raise UserError(
                f"{type(model).__name__} has no inference(inputs, do_postprocess=False), which tiles need",
                "take a model that has it, as those of detectron2",
            )
        if not 0 <= overlap < width:
            raise UserError(
                f"tiles {width} pixels wide can't overlap by {overlap}", "the overlap is from 0 up to the width"
            )
        self.model: Any = model
        self.width, self.overlap, self.batch_size = width, overlap, batch_size

    def forward(self, inputs: Sequence[dict]) -> list[dict[str, Instances]]:
        """Detections for dicts with `image` (channels, h, w), `height` and `width`: in pixels of these."""
        return self.inference(inputs)  # type: ignore[return-value]

    def inference(self, inputs: Sequence[dict], do_postprocess: bool = True) -> list[dict] | list[Instances]:
        """As `forward`; without `do_postprocess` in pixels of `image`, masks within their boxes (N, 1, M, M)."""
        found = [self._detect(one) for one in inputs]
        if not do_postprocess:
            return found
        pairs = zip(found, inputs, strict=True)
        return [{"instances": detector_postprocess(items, one["height"], one["width"])} for items, one in pairs]

    def _detect(self, one: dict) -> Instances:
        image = one["image"]
        height, width = image.shape[-2:]
        scale = width / one["width"]
        wide, lefts = tile_places(width, self.width * scale, self.overlap * scale)
        tiles = [{**one, "image": image[..., left : left + wide], "height": height, "width": wide} for left in lefts]
        found = []
        for start in range(0, len(tiles), self.batch_size):
            found += self.model.inference(tiles[start : start + self.batch_size], do_postprocess=False)
        return merge_tiles(found, lefts, wide, (height, width))


def tile_places(width: int, tile: float, overlap: float) -> tuple[int, list[int]]:
    """The width of all tiles of an image of this `width`, and where they begin: evenly, with this overlap or more."""
    wide = min(width, max(1, round(tile)))
    count = 1 if wide == width else math.ceil((width - overlap) / (wide - min(overlap, wide - 1)))
    return wide, [round(place * (width - wide) / max(1, count - 1)) for place in range(count)]


def merge_tiles(found: Sequence[Instances], lefts: Sequence[int], wide: int, size: tuple[int, int]) -> Instances:
    """What was found in tiles of an image of this (height, width), each item once, the best first.

    Args:
        found: in pixels of each tile, which begin at `lefts` and are `wide`.
    """
    parts = []
    for tile, (items, left) in enumerate(zip(found, lefts, strict=True)):
        boxes = items.pred_boxes.tensor
        margin = max(1.0, CUT_MARGIN * wide)
        cut = torch.zeros(len(items), dtype=torch.bool, device=boxes.device)
        if left > 0:
            cut |= boxes[:, 0] < margin
        if left + wide < size[1]:
            cut |= boxes[:, 2] > wide - margin
        moved = Instances(size, **items.get_fields())
        moved.pred_boxes = Boxes(boxes + boxes.new_tensor([left, 0, left, 0]))
        moved.tile, moved.is_cut = torch.full_like(cut, tile, dtype=torch.int64), cut
        parts.append(moved)
    merged = Instances.cat(parts)
    kept = merged[_first_of_each(merged)]
    for name in ("tile", "is_cut"):
        kept.remove(name)
    return kept[kept.scores.argsort(descending=True, stable=True)]


def _first_of_each(items: Instances) -> torch.Tensor:
    """The places of detections that show no item that a better one of another tile shows: whole before cut ones."""
    order = torch.sort(items.scores - 2 * items.is_cut.float(), descending=True, stable=True).indices
    boxes, classes, tiles = items.pred_boxes.tensor[order].float(), items.pred_classes[order], items.tile[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    is_left = torch.ones(len(order), dtype=torch.bool, device=order.device)
    for place in range(len(order)):
        if not is_left[place]:
            continue
        rest = slice(place + 1, None)
        corners = torch.minimum(boxes[place, 2:], boxes[rest, 2:]) - torch.maximum(boxes[place, :2], boxes[rest, :2])
        shared = corners.clamp(min=0).prod(dim=1)
        is_same = shared > SAME_ITEM * torch.minimum(areas[place], areas[rest])
        is_left[rest] &= ~(is_same & (classes[rest] == classes[place]) & (tiles[rest] != tiles[place]))
    return order[is_left]
