"""Tiles of a long image: all of it is seen, and an item in two of them is told once, by the one that has it whole."""

import itertools

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xray_lazy.errors import UserError
from xray_lazy.evaluation.tiling import TiledModel, tile_places

HEIGHT = 40


class FindsBrightColumns(nn.Module):
    """An item for each run of bright columns; the share that is in the image is its score, of 30 columns."""

    def inference(self, inputs, do_postprocess=True):
        return [self._find(one["image"]) for one in inputs]

    def _find(self, image):
        bright = (image[0, 0] > 0).int()
        steps = torch.diff(bright, prepend=bright.new_zeros(1), append=bright.new_zeros(1))
        lefts, rights = (steps == 1).nonzero()[:, 0], (steps == -1).nonzero()[:, 0]
        boxes = torch.stack([lefts, 5 + 0 * lefts, rights, 35 + 0 * lefts], 1).float()
        found = Instances(tuple(image.shape[-2:]), pred_boxes=Boxes(boxes), pred_classes=torch.zeros_like(lefts))
        found.scores = ((rights - lefts) / 30).clamp(max=1)
        found.pred_masks = torch.ones(len(lefts), 1, 2, 2)
        return found


def belt(*lefts, width=400, item=30):
    image = torch.zeros(3, HEIGHT, width)
    for left in lefts:
        image[:, :, left : left + item] = 255
    return {"image": image, "height": HEIGHT, "width": width}


@given(st.integers(1, 3000), st.integers(1, 800), st.data())
def test_tiles_are_equal_cover_the_image_and_overlap_enough(width, tile, data):
    overlap = data.draw(st.integers(0, tile - 1))
    wide, lefts = tile_places(width, tile, overlap)
    assert wide == min(tile, width) and lefts[0] == 0 and lefts[-1] + wide == width
    for left, following in itertools.pairwise(lefts):
        assert left < following <= left + wide - overlap + 1  # a pixel of rounding


@pytest.mark.parametrize("start", range(0, 100, 7))
def test_an_item_at_any_place_is_found_once_and_whole(start):
    places = [start, start + 110, start + 220]
    (found,) = TiledModel(FindsBrightColumns(), width=100, overlap=40).inference([belt(*places)], do_postprocess=False)
    assert sorted(found.pred_boxes.tensor[:, 0].tolist()) == places
    assert found.scores.tolist() == [1, 1, 1] and found.pred_masks.shape == (3, 1, 2, 2)
    assert found.image_size == (HEIGHT, 400) and not found.has("is_cut")


def test_an_item_wider_than_the_overlap_comes_in_parts():
    model = TiledModel(FindsBrightColumns(), width=100, overlap=10)
    (found,) = model.inference([belt(60, item=90, width=370)], do_postprocess=False)
    assert sorted(found.pred_boxes.tensor[:, ::2].tolist()) == [[60, 100], [90, 150]]


def test_tiles_are_in_pixels_of_the_file():
    """An image that came at half its size has tiles of half the width."""
    small = {**belt(40, 150, width=200), "height": 2 * HEIGHT, "width": 400}
    (output,) = TiledModel(FindsBrightColumns(), width=120, overlap=70)([small])
    assert sorted(output["instances"].pred_boxes.tensor[:, 0].tolist()) == [80, 300]
    assert output["instances"].image_size == (2 * HEIGHT, 400)


def test_tiles_that_can_not_be_are_refused():
    with pytest.raises(UserError, match="tiles 100 pixels wide can't overlap by 100"):
        TiledModel(FindsBrightColumns(), width=100, overlap=100)
    with pytest.raises(UserError, match="which tiles need"):
        TiledModel(nn.Identity(), width=100, overlap=10)
