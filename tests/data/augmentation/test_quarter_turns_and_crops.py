"""Quarter turns and crops around whole items: pixels, boxes and masks move alike, as on the plain path."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as mask_util

from xray_lazy.data.augmentation.quarter_turns import RandomQuarterTurn
from xray_lazy.data.augmentation.whole_item_crop import RandomWholeItemCrop, grown, whole_pixels
from xray_lazy.data.followed_transforms import QuarterTurnTransform
from xray_lazy.data.image_transforms import ImageInput
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.masks.mask_rasters import MaskRasters, sample_rle
from xray_lazy.data.picture_cache import PictureCache
from xray_lazy.errors import UserError

CONFIGS = Path(__file__).parents[3] / "configs"
wild = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = st.tuples(st.integers(1, 30), st.integers(1, 30))


def a_record(folder, bits, boxes_alone=False, **changes):
    """A scan whose items are these masks, brighter where they are."""
    height, width = bits[0].shape
    image = np.full((height, width, 3), 40, np.uint8)
    for mask in bits:
        image[mask] = 200
    path = folder / "bag.png"
    cv2.imwrite(str(path), image)
    annotations = []
    for number, mask in enumerate(bits):
        rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
        one = {"bbox": mask_util.toBbox(rle).tolist(), "bbox_mode": BoxMode.XYWH_ABS, "category_id": number}
        annotations.append(one | {"iscrowd": 0} | ({} if boxes_alone else {"segmentation": rle}))
    return {"file_name": str(path), "height": height, "width": width, "annotations": annotations} | changes


def mapped(augmentations, record, seed=0, **options):
    np.random.seed(seed)
    return DetectionMapper(augmentations, **options)(record)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("planes", [False, True])
def test_a_turn_moves_pixels_corners_and_masks_as_numpy_turns_arrays(turns, planes):
    image = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    if planes:
        image = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    turn = QuarterTurnTransform(5, 8, turns)
    expected = np.rot90(image, turns)
    assert (turn.apply_image(image) == expected).all()
    assert (turn.apply_image(image.astype(np.float32)) == expected).all()
    assert (turn.apply_segmentation(image[:, :, 0]) == expected[:, :, 0]).all()
    (left, top, right, bottom) = turn.apply_box(np.array([[1.0, 2, 4, 3]]))[0].astype(int)
    assert (np.sort(expected[top:bottom, left:right].ravel()) == np.sort(image[2:3, 1:4].ravel())).all()
    assert (turn.inverse().apply_image(expected) == image).all()
    assert (turn.inverse().apply_box(turn.apply_box(np.array([[1.5, 2, 4, 3]]))) == [[1.5, 2, 4, 3]]).all()


mask_stacks = st.tuples(sizes, st.integers(1, 3)).flatmap(lambda drawn: arrays.arrays(bool, (drawn[1], *drawn[0])))
moves = st.lists(
    st.one_of(
        st.builds(RandomQuarterTurn),
        st.builds(T.RandomFlip, st.just(0.5)),
        st.just(T.RandomFlip(0.5, horizontal=False, vertical=True)),
        st.builds(T.FixedSizeCrop, st.tuples(st.integers(5, 40), st.integers(5, 40))),
        st.builds(T.Resize, st.tuples(st.integers(1, 40), st.integers(1, 40))),
        st.builds(RandomWholeItemCrop, st.just((0.2, 1.0))),
    ),
    max_size=4,
)


@wild
@given(mask_stacks, moves, st.integers(0, 99), st.booleans())
def test_turns_pads_and_crops_of_any_masks_are_those_of_the_plain_path(tmp_path, bits, augmentations, seed, recompute):
    record = a_record(tmp_path, bits)
    options = {"recompute_boxes": recompute}
    fast, plain = (mapped(augmentations, record, seed, plain=plain, **options) for plain in (False, True))
    assert (fast["image"].int() - plain["image"].int()).abs().max() <= len(augmentations)
    fast, plain = fast["instances"], plain["instances"]
    assert fast.gt_classes.tolist() == plain.gt_classes.tolist()
    assert torch.allclose(fast.gt_boxes.tensor, plain.gt_boxes.tensor, rtol=0, atol=1e-4)
    if len(plain):
        assert torch.equal(fast.gt_masks.tensor, plain.gt_masks.tensor)


@pytest.mark.parametrize("turns", range(4))
def test_items_stay_on_their_pixels_as_polygons_masks_and_boxes(tmp_path, turns):
    bits = np.zeros((1, 20, 31), bool)
    bits[0, 4:9, 6:18] = True
    record = a_record(tmp_path, bits)
    outline = [[6, 4, 18, 4, 18, 9, 6, 9]]
    for segmentation in (record["annotations"][0]["segmentation"], outline):
        record["annotations"][0]["segmentation"] = segmentation
        sample = mapped([RandomQuarterTurn([turns])], record)
        bright = sample["image"][0] == 200
        assert torch.equal(sample["instances"].gt_masks.tensor[0], bright)
        rows, columns = torch.nonzero(bright, as_tuple=True)
        tight = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        assert sample["instances"].gt_boxes.tensor[0].tolist() == tight


def test_masks_of_turned_and_filled_images_are_sampled_and_not_drawn_whole():
    mask = np.zeros((30, 50), np.uint8, order="F")
    mask[10:14, 20:26] = 1
    image = ImageInput(np.zeros((30, 50, 3), np.uint8))
    parts = T.AugmentationList([RandomQuarterTurn([1]), T.FixedSizeCrop((70, 60)), T.RandomFlip(1.0)])
    window = MaskRasters(parts(image), (30, 50), image.image.shape[:2]).draw(mask_util.encode(mask))
    assert window.bits.shape == (6, 4) and window.bits.all()
    assert sample_rle(mask_util.encode(mask), np.arange(30), np.arange(50)).bits.shape == (4, 6)


def test_turns_that_are_none_are_refused():
    with pytest.raises(UserError, match="0 to 3"):
        RandomQuarterTurn([0, 90])
    with pytest.raises(UserError):
        RandomQuarterTurn([])


boxes = arrays.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(0, 60, width=32)).map(
    lambda corners: np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), corners[:, 2:]], 1)
)


@wild
@given(sizes, boxes, st.integers(0, 99))
def test_no_item_is_cut(size, items, seed):
    height, width = size
    items = items.clip(0, [width, height, width, height])
    np.random.seed(seed)
    crop = RandomWholeItemCrop((0.1, 1.0), tries=3).get_transform(np.zeros((height, width, 3), np.uint8), items)
    left, top, right, bottom = crop.x0, crop.y0, crop.x0 + crop.w, crop.y0 + crop.h
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    for x, y, x_end, y_end in items[(items[:, 2:] > items[:, :2]).all(1)]:
        is_apart = x >= right or x_end <= left or y >= bottom or y_end <= top
        assert is_apart or (left <= x and x_end <= right and top <= y and y_end <= bottom)


def test_a_window_grows_by_what_it_cuts_and_by_what_that_reaches_into():
    items = whole_pixels(np.array([[8.5, 2, 14.2, 6], [13, 5, 20, 9], [30, 30, 35, 35], [3, 3, 3, 9]]))
    assert len(items) == 3
    assert grown((0, 0, 10, 10), items) == (0, 0, 20, 10)
    assert grown((0, 0, 8, 10), items) == (0, 0, 8, 10)


@pytest.mark.parametrize("before", [[], [T.Resize((40, 62))], [RandomQuarterTurn([1])]])
@pytest.mark.parametrize("cached", [False, True])
def test_a_crop_knows_where_items_are_after_the_augmentations_before_it(tmp_path, before, cached):
    bits = np.zeros((1, 20, 31), bool)
    bits[0, 14:19, 6:18] = True
    record = a_record(tmp_path, bits, boxes_alone=True)
    cache = PictureCache(str(tmp_path / "cache")) if cached else None
    cut = 0
    for seed in range(8):
        crop = RandomWholeItemCrop((0.3, 0.8))
        sample = mapped([*before, crop], record, seed, with_masks=False, cache=cache)
        scale = 4 if before and isinstance(before[0], T.Resize) else 1
        cut += sample["image"].shape[1:].numel() < scale * 20 * 31
        area = sample["instances"].gt_boxes.area().tolist()
        assert area in ([], [pytest.approx(scale * 60)])
    assert cut > 4


def test_a_crop_without_items_takes_any_window(tmp_path):
    record = a_record(tmp_path, np.zeros((1, 20, 31), bool), annotations=[])
    assert mapped([RandomWholeItemCrop((0.5, 0.5))], record)["image"].shape == (3, 10, 16)
    for wrong in ({"sides": (0, 1)}, {"sides": (0.9, 0.5)}, {"sides": (0.5, 2)}, {"tries": 0}):
        with pytest.raises(UserError):
            RandomWholeItemCrop(**wrong)


def test_large_scale_jitter_for_x_rays_fills_with_white_and_covers_no_padding_with_masks(tmp_path):
    bits = np.zeros((1, 20, 31), bool)
    bits[0, 4:9, 6:18] = True
    (jitter,) = LazyConfig.load(str(CONFIGS / "common/data/xray_large_scale_jitter.py"), ("augmentations",))
    augmentations = instantiate(jitter)
    for seed in range(6):
        sample = mapped(augmentations, a_record(tmp_path, bits), seed)
        assert sample["image"].shape == (3, 1024, 1024)
        for mask, box in zip(sample["instances"].gt_masks.tensor, sample["instances"].gt_boxes.tensor, strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            left, top, right, bottom = box.tolist()
            assert left - 4 <= columns.min() and columns.max() <= right + 4
            assert top - 4 <= rows.min() and rows.max() <= bottom + 4
        assert sample["image"].max() == 255 or sample["image"].min() >= 40
