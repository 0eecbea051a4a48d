"""The mapper's fast path against detectron2's: equal masks, boxes and random draws, pixels equal but for rounding."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_util

from xray_lazy.data.image_transforms import resize
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.masks.mask_rasters import draw_polygons, sample_rle
from xray_lazy.data.masks.run_lengths import run_lengths

WIDTH, HEIGHT = 90, 60
# detectron2 adds up a box's corner and extent in float32, we in float64
PIXELS = 1e-4
wild = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "bag.png"
    cv2.imwrite(str(path), bag(WIDTH, HEIGHT))
    return str(path)


def bag(width: int, height: int) -> np.ndarray:
    """Soft shapes, hard edges and some noise, (height, width, 3) uint8."""
    random = np.random.default_rng(3)
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    values = 150 + 60 * np.sin(x)[..., None] * np.cos(y)[..., None] * [1, 0.7, 0.4]
    values[height // 3 : height // 2, width // 4 : width // 2] -= 70
    return np.clip(values + random.normal(0, 3, values.shape), 0, 255).astype(np.uint8)


def record(image: str, segmentations: list, **changes) -> dict:
    annotations = [
        {"bbox": [3.3 + i, 4.7, 20.2, 31.1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": i, "iscrowd": 0}
        | {"segmentation": segmentation}
        for i, segmentation in enumerate(segmentations)
    ]
    return {"file_name": image, "height": HEIGHT, "width": WIDTH, "annotations": annotations} | changes


def mapped(mapper, entry: dict, seed: int = 0) -> dict:
    np.random.seed(seed)
    sample = mapper(entry)
    sample["next_draw"] = np.random.rand()
    return sample


def assert_same(ours: dict, theirs: dict, largest_difference: int = 1) -> None:
    assert ours["next_draw"] == theirs["next_draw"]
    assert ours["image"].shape == theirs["image"].shape and ours["image"].dtype == theirs["image"].dtype
    assert ours["image"].is_contiguous()
    assert (ours["image"].int() - theirs["image"].int()).abs().max() <= largest_difference
    ours, theirs = ours["instances"], theirs["instances"]
    assert ours.gt_classes.tolist() == theirs.gt_classes.tolist()
    assert torch.allclose(ours.gt_boxes.tensor, theirs.gt_boxes.tensor, rtol=0, atol=PIXELS)
    assert ours.gt_boxes.tensor.dtype == torch.float32
    if len(theirs):
        assert torch.equal(ours.gt_masks.tensor, theirs.gt_masks.tensor)


corner = st.tuples(st.floats(-20, WIDTH + 20, width=32), st.floats(-20, HEIGHT + 20, width=32))
polygon = st.lists(corner, min_size=3, max_size=9).map(lambda corners: [value for pair in corners for value in pair])
# polygons of one instance may lie apart or on top of each other, and partly or wholly outside of the image
polygons = st.lists(polygon, min_size=1, max_size=3)


@st.composite
def rle(draw) -> dict:
    height, width = HEIGHT, WIDTH
    changes = sorted(draw(st.sets(st.integers(0, height * width - 1), max_size=40)))
    counts = np.diff([0, *changes, height * width]).tolist()
    return mask_util.frPyObjects({"size": [height, width], "counts": counts}, height, width)


separable = st.one_of(
    st.builds(T.Resize, st.tuples(st.integers(20, 120), st.integers(20, 120))),
    st.builds(T.RandomFlip, st.just(0.5)),
    st.just(T.RandomFlip(0.5, horizontal=False, vertical=True)),
    st.just(T.ResizeShortestEdge((40, 50, 70), 100, "choice")),
)
crop = st.just(T.RandomCrop("absolute_range", (30, 50)))


@wild
@given(st.lists(st.one_of(polygons, rle()), max_size=4), st.lists(separable, max_size=3), st.integers(0, 99))
def test_resizes_and_flips_of_any_masks(image, segmentations, augmentations, seed):
    ours = mapped(DetectionMapper(augmentations), record(image, segmentations), seed)
    theirs = mapped(DetectionMapper(augmentations, plain=True), record(image, segmentations), seed)
    assert_same(ours, theirs, largest_difference=len(augmentations) + 1)


@wild
@given(st.lists(rle(), max_size=4), st.lists(separable, max_size=2), crop, st.booleans(), st.integers(0, 99))
def test_crops_too_with_boxes_taken_from_what_is_left(image, masks, augmentations, crop, recompute, seed):
    augmentations = [*augmentations[:1], crop, *augmentations[1:]]
    options = {"augmentations": augmentations, "recompute_boxes": recompute}
    ours = mapped(DetectionMapper(**options), record(image, masks), seed)
    assert_same(ours, mapped(DetectionMapper(**options, plain=True), record(image, masks), seed), 3)


@wild
@given(st.lists(st.one_of(polygons, rle()), min_size=1, max_size=4), st.lists(separable, max_size=2))
def test_the_plain_path_is_detectron2s_mapper(image, segmentations, augmentations):
    theirs = DatasetMapper(
        is_train=True,
        augmentations=augmentations,
        image_format="BGR",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    ours = mapped(DetectionMapper(augmentations, plain=True), record(image, segmentations))
    assert_same(ours, mapped(theirs, record(image, segmentations)), largest_difference=0)


@pytest.mark.parametrize(
    "augmentation",
    [
        T.RandomBrightness(0.5, 1.5),
        T.RandomRotation([-30, 30]),
        T.RandomExtent((0.7, 1.3), (0.2, 0.2)),
        T.RandomApply(T.RandomContrast(0.5, 1.5), 0.5),
        T.FixedSizeCrop((70, 70)),
        T.AugmentationList([T.RandomFlip(), T.ResizeScale(0.5, 1.5, 80, 80)]),
        T.TransformList([T.HFlipTransform(WIDTH), T.ResizeTransform(HEIGHT, WIDTH, 33, 71)]),
        T.Resize((33, 71), Image.BICUBIC),
    ],
    ids=lambda augmentation: type(augmentation).__name__,
)
@pytest.mark.parametrize("seed", range(4))
def test_any_augmentation_of_detectron2_takes_part(image, augmentation, seed):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[10:35, 20:60] = 1
    entry = record(image, [mask_util.encode(mask), mask_util.encode(mask)])
    augmentations = [T.RandomFlip(), augmentation, T.RandomFlip(), T.Resize((50, 77))]
    ours = mapped(DetectionMapper(augmentations), entry, seed)
    assert_same(ours, mapped(DetectionMapper(augmentations, plain=True), entry, seed), largest_difference=3)


class HalfResize(T.ResizeTransform):
    """A person's own idea of a resize."""

    def apply_image(self, img, interp=None):
        return np.full((self.new_h, self.new_w, 3), 7, np.uint8)


def test_a_subclass_of_a_fast_transform_does_its_own_work(image):
    sample = DetectionMapper([HalfResize(HEIGHT, WIDTH, 30, 45)])(record(image, []))
    assert sample["image"].shape == (3, 30, 45) and (sample["image"] == 7).all()


@pytest.mark.parametrize("size", [(640, 1138), (750, 1333), (800, 1422), (54, 96), (1080, 1920), (1500, 2000)])
def test_resized_images_are_pillows_within_70_db(size):
    source = bag(1920, 1080)
    ours = resize(source, *size).astype(float)
    pillow = np.asarray(Image.fromarray(source).resize(size[::-1], Image.BILINEAR), float)
    error = ((ours - pillow) ** 2).mean()
    assert np.abs(ours - pillow).max() <= 1
    assert error == 0 or 10 * np.log10(255**2 / error) > 70


def test_rgb_is_bgr_the_other_way_round(image):
    bgr, rgb = (DetectionMapper([], image_format=order)(record(image, []))["image"] for order in ("BGR", "RGB"))
    assert torch.equal(bgr, rgb.flip(0)) and not torch.equal(bgr, rgb)


def test_crowds_are_no_targets_and_box_only_instances_none_of_masks(image):
    entry = record(image, [[[5, 5, 30, 5, 30, 30]]] * 3)
    entry["annotations"][0]["iscrowd"] = 1
    del entry["annotations"][1]["segmentation"]
    assert DetectionMapper([])(entry)["instances"].gt_classes.tolist() == [2]
    boxes = DetectionMapper([], with_masks=False)(entry)["instances"]
    assert boxes.gt_classes.tolist() == [1, 2] and not boxes.has("gt_masks")


def test_whole_numbers_as_corners_are_not_cut_off(image):
    entry = record(image, [[[11, 11, 51, 11, 51, 41, 11, 41]]])
    exact = record(image, [[[11.0, 11.0, 51.0, 11.0, 51.0, 41.0, 11.0, 41.0]]])
    for plain in (False, True):
        mapper = DetectionMapper([T.Resize((47, 71))], plain=plain)
        assert torch.equal(mapper(entry)["instances"].gt_masks.tensor, mapper(exact)["instances"].gt_masks.tensor)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30))
def test_run_lengths_are_those_that_were_encoded(counts):
    size = [1, sum(counts)]
    encoded = mask_util.frPyObjects({"size": size, "counts": counts}, *size)
    assert run_lengths(encoded["counts"]).tolist() == counts
    assert run_lengths(encoded["counts"].decode()).tolist() == counts


@given(rle(), st.data())
def test_sampling_an_rle_is_indexing_its_mask(mask, data):
    rows = np.sort(data.draw(st.lists(st.integers(0, HEIGHT - 1), min_size=1, max_size=80).map(np.array)))
    columns = np.sort(data.draw(st.lists(st.integers(0, WIDTH - 1), min_size=1, max_size=80).map(np.array)))[::-1]
    window = sample_rle(mask, rows, columns)
    drawn = np.zeros((len(rows), len(columns)), bool)
    height, width = window.bits.shape
    drawn[window.top : window.top + height, window.left : window.left + width] = window.bits
    assert (drawn == mask_util.decode(mask)[np.ix_(rows, columns)]).all()


def test_a_window_is_hardly_larger_than_its_polygon():
    window = draw_polygons([np.array([[500.3, 600.2], [520.8, 600.2], [520.8, 630.9]])], 1080, 1920)
    assert window.bits.shape[0] <= 36 and window.bits.shape[1] <= 26
    left, top, right, bottom = window.box()
    assert 499 <= left <= 501 and 599 <= top <= 601 and 519 <= right <= 522 and 629 <= bottom <= 632
