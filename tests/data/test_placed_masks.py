"""Masks as windows, beside detectron2's bitmaps of whole images."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from xray_lazy.data.masks import placed_masks
from xray_lazy.data.masks.mask_rasters import MaskWindow
from xray_lazy.data.masks.placed_masks import PlacedMasks
from xray_lazy.data.memory.batch_memory import to_device

HEIGHT, WIDTH = 24, 30


def masks_of(seed, count=3):
    """Windows anywhere, also at the edges of the image, as large as it and empty."""
    random = np.random.default_rng(seed)
    windows = []
    for _ in range(count):
        top, left = random.integers(HEIGHT), random.integers(WIDTH)
        bottom, right = random.integers(top, HEIGHT + 1), random.integers(left, WIDTH + 1)
        if random.random() < 0.2:
            top, left, bottom, right = 0, 0, HEIGHT, WIDTH
        windows.append(MaskWindow(int(left), int(top), random.random((bottom - top, right - left)) < 0.8))
    return PlacedMasks.place(windows, (HEIGHT, WIDTH)), windows


def bitmaps_of(windows):
    bitmaps = torch.zeros(len(windows), HEIGHT, WIDTH, dtype=torch.bool)
    for bitmap, (left, top, bits) in zip(bitmaps, windows, strict=True):
        bitmap[top : top + bits.shape[0], left : left + bits.shape[1]] = torch.from_numpy(bits)
    return bitmaps


coordinate = st.floats(-20, 50, width=32)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    boxes=st.lists(
        st.tuples(st.integers(0, 2), coordinate, coordinate, st.floats(0, 60, width=32), st.floats(0, 60, width=32)),
        min_size=1,
        max_size=8,
    ),
    size=st.sampled_from([1, 7, 28]),
    canvas=st.sampled_from([1, 1000, 2**25]),
)
def test_crops_are_those_of_the_whole_image(seed, boxes, size, canvas):
    masks, windows = masks_of(seed)
    boxes = torch.tensor(boxes)
    own = boxes[:, 0].long()
    corners = torch.cat([boxes[:, 1:3], boxes[:, 1:3] + boxes[:, 3:]], 1)
    bitmaps = bitmaps_of(windows)
    whole, placed_masks.CANVAS = placed_masks.CANVAS, canvas
    try:
        found = masks[own].crop_and_resize(corners, size)
    finally:
        placed_masks.CANVAS = whole
    expected = BitMasks(bitmaps[own]).crop_and_resize(corners, size)
    rois = torch.cat([own[:, None].float(), corners], 1)
    shares = roi_align(bitmaps[:, None].float(), rois, size, aligned=True)[:, 0]
    # where half of the samples are inside, but for rounding, either is right
    assert (found == expected)[(shares - 0.5).abs() > 1e-3].all()
    assert found.dtype == torch.bool and found.shape == expected.shape


@pytest.mark.parametrize(
    "pick", [1, -1, slice(1, None), [2, 0], torch.tensor([2, 2, 0]), torch.tensor([True, False, True])]
)
def test_picking_gives_the_same_masks(pick):
    masks, windows = masks_of(4)
    expected = BitMasks(bitmaps_of(windows))[pick]
    assert len(masks[pick]) == len(expected) and masks[pick].image_size == (HEIGHT, WIDTH)
    assert torch.equal(masks[pick].tensor, expected.tensor)
    again = masks[[1, 2, 0]][pick]
    assert torch.equal(again.tensor, BitMasks(bitmaps_of(windows))[[1, 2, 0]][pick].tensor)


def test_they_are_bitmaps_for_those_who_ask():
    masks, windows = masks_of(4)
    assert isinstance(masks, BitMasks)
    assert torch.equal(PlacedMasks.cat([masks, masks]).tensor, bitmaps_of(windows).repeat(2, 1, 1))
    assert torch.equal(masks.get_bounding_boxes().tensor, BitMasks(bitmaps_of(windows)).get_bounding_boxes().tensor)
    masks.tensor[1] = True
    boxes = torch.tensor([[3.0, 4, 20, 22]] * 3)
    expected = BitMasks(masks.tensor).crop_and_resize(boxes, 7)
    assert torch.equal(masks.crop_and_resize(boxes, 7), expected) and expected[1].all()
    assert torch.equal(pickle.loads(pickle.dumps(masks)).tensor, masks.tensor)


def test_a_set_without_masks_has_none():
    masks = PlacedMasks.place([], (HEIGHT, WIDTH))
    assert len(masks) == 0 and masks.tensor.shape == (0, HEIGHT, WIDTH)
    assert masks.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)


def test_they_go_to_another_process_in_kilobytes_and_arrive_whole():
    bits = np.random.default_rng(0).random((90, 110)) > 0.5
    windows = [MaskWindow(700, 300, bits), MaskWindow(0, 0, bits[:1, :1])]
    masks = PlacedMasks.place(windows, (800, 1333))
    sent = pickle.dumps(masks)
    arrived = pickle.loads(sent)
    assert len(sent) < 3000 and arrived.image_size == (800, 1333)
    assert torch.equal(pickle.loads(pickle.dumps(masks[1:])).tensor, masks.tensor[1:])
    assert torch.equal(arrived.tensor, masks.tensor) and masks.tensor[0].sum() == bits.sum()


def test_on_its_way_to_a_device_a_mask_is_as_large_as_its_window():
    size, extent = (8000, 4000), 300
    windows = [MaskWindow(i * 7, i * 15, np.ones((extent, extent), bool)) for i in range(500)]
    masks = PlacedMasks.place(windows, size)
    (moved,) = to_device([{"masks": masks}], torch.device("meta"))
    assert moved["masks"].device.type == "meta" and moved["masks"]._bits.nbytes == 500 * extent**2
    drawn = torch.arange(500).repeat(2)
    assert masks[drawn]._bits.data_ptr() == masks._bits.data_ptr()  # nothing is copied for what is drawn
    largest = max(canvases.nbytes for _, canvases, _ in masks._canvases())
    assert largest <= 4 * placed_masks.CANVAS
