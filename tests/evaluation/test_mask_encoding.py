"""Encoding masks within boxes, held against detectron2's pasting and pycocotools' encoding byte by byte."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.layers.mask_ops import paste_masks_in_image
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from xray_lazy.data.masks import mask_encoding
from xray_lazy.data.masks.mask_encoding import EncodedMasks, encode_bitmaps, encode_box_masks

HEIGHT, WIDTH = 61, 83


def pasted(masks, boxes, height=HEIGHT, width=WIDTH):
    """What detectron2 and pycocotools make of the same, one mask after the other."""
    counts = []
    for mask, box in zip(masks, boxes, strict=True):
        left, top, right, bottom = box.tolist()
        if right < -1 or bottom < -1 or left > width + 1 or top > height + 1:
            counts.append(mask_util.encode(np.zeros((height, width), np.uint8, order="F")))  # detectron2 fails there
            continue
        bitmap = paste_masks_in_image(mask[None], box[None], (height, width))[0]
        counts.append(mask_util.encode(np.asfortranarray(bitmap.numpy().view(np.uint8))))
    return [{"size": [height, width], "counts": one["counts"].decode()} for one in counts]


def smooth_masks(count, size=28, seed=0):
    noise = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(seed)) * 4 + 1
    return torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic")[:, 0].sigmoid()


places = st.one_of(
    st.floats(-40, 120, width=32),  # fractional, also outside
    st.integers(-10, 200).map(lambda half: half / 2),  # pixels' edges and centres, where rounding decides
    st.sampled_from([-1e5, 1e5]),
)
sides = st.one_of(
    st.floats(2.0**-10, 0.5, width=32), st.floats(0.5, 130, width=32), st.integers(1, 130).map(float), st.just(3e5)
)
# probabilities as models give them, and those that often meet the threshold exactly
kinds = st.sampled_from(["smooth", "noise", "zero or one", "quarters", "near the threshold", "all one"])


def masks_of(kind, count, size, seed):
    noise = torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed))
    return {
        "smooth": lambda: smooth_masks(count, size, seed),
        "noise": lambda: noise,
        "zero or one": lambda: noise.round(),
        "quarters": lambda: (noise * 4).round() / 4,
        "near the threshold": lambda: 0.5 + (noise - 0.5) * 1e-6,
        "all one": lambda: torch.ones_like(noise),
    }[kind]()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(places, places, sides, sides), min_size=1, max_size=4),
    kinds,
    st.sampled_from([1, 2, 7, 14, 28, 56]),
    st.integers(0, 10**6),
)
def test_masks_of_wild_boxes_are_equal_to_the_byte(found, kind, size, seed):
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in found], dtype=torch.float32)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]  # a side may vanish far from the origin
    masks = masks_of(kind, len(boxes), size, seed)
    assert list(encode_box_masks(masks, boxes, HEIGHT, WIDTH)) == pasted(masks, boxes)


def test_a_hundred_masks_of_a_full_size_scan_are_equal_to_the_byte():
    generator = torch.Generator().manual_seed(5)
    sides = torch.rand(100, 2, generator=generator) * 400 + 3
    corners = torch.rand(100, 2, generator=generator) * torch.tensor([1920.0, 1080.0]) - sides / 2
    boxes = torch.cat([corners, corners + sides], dim=1)
    boxes = torch.stack([boxes[:, 0::2].clamp(0, 1920), boxes[:, 1::2].clamp(0, 1080)], dim=2).flatten(1)
    masks = smooth_masks(100)
    found = list(encode_box_masks(masks[:, None], boxes, 1080, 1920))
    assert found == pasted(masks, boxes, 1080, 1920)
    assert len({one["counts"] for one in found}) == 100


@pytest.mark.parametrize("values", [1, 200, 1500])
def test_how_much_is_done_at_a_time_changes_nothing(monkeypatch, values):
    masks, boxes = smooth_masks(5), torch.tensor([[3.5, 4.25, 60, 50]]) + torch.arange(5)[:, None]
    whole = encode_box_masks(masks, boxes, HEIGHT, WIDTH)
    monkeypatch.setitem(mask_encoding.VALUES_AT_ONCE, "cpu", values)
    monkeypatch.setattr(mask_encoding, "PIXELS_AT_ONCE", 100)
    assert list(encode_box_masks(masks, boxes, HEIGHT, WIDTH)) == list(whole)


def test_boxes_without_area_or_not_finite_or_outside_have_empty_masks():
    boxes = torch.tensor(
        [[5, 5, 5, 20], [9, 9, 4, 4], [float("nan"), 1, 2, 3], [0, 0, float("inf"), 9], [500, 5, 600, 50]]
    )
    found = encode_box_masks(torch.ones(5, 28, 28), boxes, HEIGHT, WIDTH)
    assert not found.bitmaps().any() and found.bitmaps().shape == (5, HEIGHT, WIDTH)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_masks_that_are_not_numbers_are_what_detectron2_makes_of_them():
    masks, boxes = smooth_masks(4), torch.tensor([[3.5, 4.25, 60, 50]]).repeat(4, 1)
    masks[0, 5, 7] = masks[1, 3:20] = masks[2] = float("nan")
    assert list(encode_box_masks(masks, boxes, HEIGHT, WIDTH)) == pasted(masks, boxes)


def test_no_masks_are_encoded_to_none():
    found = encode_box_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), HEIGHT, WIDTH)
    assert len(found) == 0 and list(found) == [] and found.bitmaps().shape == (0, HEIGHT, WIDTH)


def test_a_mask_that_fills_the_image_is_one_run():
    (found,) = encode_box_masks(torch.ones(1, 28, 28), torch.tensor([[-50.0, -50, 200, 200]]), HEIGHT, WIDTH)
    assert found == pasted(torch.ones(1, 28, 28), torch.tensor([[-50.0, -50, 200, 200]]))[0]
    assert mask_util.area(found) == HEIGHT * WIDTH


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_bitmaps_decode_to_themselves(seed, height, width, share):
    bitmaps = np.random.default_rng(seed).random((3, height, width)) < share
    encoded = encode_bitmaps(torch.from_numpy(bitmaps))
    np.testing.assert_array_equal(encoded.bitmaps(), bitmaps)
    for one, bitmap in zip(encoded, bitmaps, strict=True):
        np.testing.assert_array_equal(mask_util.decode(one), bitmap)


@pytest.mark.parametrize(
    "chosen", [slice(1, 4), torch.tensor([True, False, True, False, True]), np.array([4, 0]), torch.tensor([3]), []]
)
def test_encoded_masks_are_chosen_like_a_tensor(chosen):
    masks = encode_box_masks(smooth_masks(5), torch.tensor([[3.5, 4.25, 60, 50]]).repeat(5, 1), HEIGHT, WIDTH)
    expected = torch.from_numpy(masks.bitmaps())[chosen].numpy()
    assert isinstance(masks[chosen], EncodedMasks)
    np.testing.assert_array_equal(masks[chosen].bitmaps(), expected)


def test_encoded_masks_travel_between_processes():
    masks = encode_box_masks(smooth_masks(3), torch.tensor([[3.5, 4.25, 60, 50]]).repeat(3, 1), HEIGHT, WIDTH)
    assert list(pickle.loads(pickle.dumps(masks))) == list(masks)
