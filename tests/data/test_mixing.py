"""Parts that mix other images in: what they get, where their draws come from, and what becomes of what they add."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from pycocotools import mask as mask_util

from tests.data.coco_sets import reference, write_set
from xray_lazy.data.augmentation.mixing import Scene, encode_window, new_annotation
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.loaders import TrainLoader
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.masks.mask_rasters import MaskWindow
from xray_lazy.data.picture_cache import PictureCache
from xray_lazy.data.sampling import ShuffledEpochs
from xray_lazy.errors import UserError


@pytest.fixture
def dataset(tmp_path):
    write_set(tmp_path, count=8)
    return load_datasets(reference(tmp_path))


def half_of_another(scene, random, others):
    """The image's left half beside the left half of another image, and a new item at a random place."""
    other = others.draw(random)
    width = scene.image.shape[1] // 2
    scene.image[:, width : 2 * width] = other.image[: scene.image.shape[0], :width]
    left = int(random.integers(scene.image.shape[1] - 6))
    mask = MaskWindow(left, 3, np.ones((4, 6), bool))
    return Scene(scene.image, [*scene.annotations, new_annotation(mask, scene.size, 1)], scene.image_format)


def twice_as_wide(scene, random, others):
    """The image twice, side by side; its annotations stay those of the left one."""
    return Scene(np.concatenate([scene.image] * 2, 1), [], scene.image_format)


def mixing_mapper(*parts, **options):
    return DetectionMapper([T.ResizeShortestEdge((32, 48), sample_style="choice")], mixing=parts, **options)


def make_loader(dataset, mapper, num_workers=0):
    return TrainLoader(dataset, mapper, ShuffledEpochs(seed=1), 4, num_workers, seed=3)


def batches_of(loader, count, start=0):
    return list(itertools.islice(loader.batches(start), count))


def content(batches):
    return [(s["file_name"], s["image"], s["instances"].gt_boxes.tensor) for batch in batches for s in batch]


def are_equal(first, second):
    pairs = zip(first, second, strict=True)
    return all(a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in pairs)


def test_what_is_mixed_in_depends_on_seed_and_place_alone(dataset):
    whole = content(batches_of(make_loader(dataset, mixing_mapper(half_of_another)), 4))
    by_workers = content(batches_of(make_loader(dataset, mixing_mapper(half_of_another), num_workers=2), 4))
    resumed = content(batches_of(make_loader(dataset, mixing_mapper(half_of_another)), 2, start=2))
    assert are_equal(whole, by_workers)
    assert are_equal(whole[8:], resumed)
    first, again = (next(s for s in part if s[0] == whole[0][0]) for part in (whole[:8], whole[8:]))
    assert not torch.equal(first[2], again[2])  # the same image at another place


def test_the_picture_cache_changes_nothing_of_what_is_mixed(dataset, tmp_path):
    plain = content(batches_of(make_loader(dataset, mixing_mapper(half_of_another)), 2))
    for _ in range(2):  # from the files, and from the cache
        cache = PictureCache(str(tmp_path / "cache"))
        cached = content(batches_of(make_loader(dataset, mixing_mapper(half_of_another, cache=cache)), 2))
        assert are_equal(plain, cached)


def test_a_part_that_writes_into_its_image_leaves_the_cache_alone(dataset, tmp_path):
    def blacken(scene, random, others):
        scene.image[:] = 0
        return scene

    cache = PictureCache(str(tmp_path / "cache"))
    mapper = DetectionMapper([], mixing=[blacken], cache=cache)
    mapper.mix_from(dataset)
    for _ in range(2):
        assert not mapper(dataset[0])["image"].any()
    assert DetectionMapper([], cache=cache)(dataset[0])["image"].any()


@pytest.mark.parametrize("plain", [False, True])
def test_new_items_have_boxes_and_masks_after_the_augmentations(dataset, plain):
    def add(scene, random, others):
        mask = MaskWindow(4, 2, np.array([[1, 1, 0], [1, 1, 1]], bool))
        return Scene(scene.image, [new_annotation(mask, scene.size, 1)])

    mapper = DetectionMapper([T.RandomFlip(1.0)], mixing=[add], plain=plain)
    mapper.mix_from(dataset)
    sample = mapper(dataset[0])
    width = sample["width"]
    instances = sample["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[width - 7, 2, width - 4, 4]]
    assert instances.gt_masks.tensor[0, 2:4, width - 7 : width - 4].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert int(instances.gt_masks.tensor.sum()) == 5


def test_parts_work_in_order_and_may_change_the_size(dataset):
    def mark(scene, random, others):
        mask = MaskWindow(scene.size[1] - 5, 0, np.ones((5, 5), bool))
        return Scene(scene.image, [*scene.annotations, new_annotation(mask, scene.size, 0)])

    mapper = DetectionMapper([], mixing=[twice_as_wide, mark])
    mapper.mix_from(dataset)
    record = dataset[0]
    sample = mapper(record)
    assert sample["image"].shape == (3, record["height"], 2 * record["width"])
    assert sample["instances"].gt_boxes.tensor[0, 2] == 2 * record["width"]
    assert sample["instances"].gt_masks.tensor.shape[1:] == sample["image"].shape[1:]


def test_an_image_that_cannot_be_mixed_in_is_passed_over_and_counted(dataset):
    broken = Path(dataset[2]["file_name"])
    broken.write_bytes(b"no image")
    loader = make_loader(dataset, mixing_mapper(half_of_another))
    seen = content(batches_of(loader, 6))
    assert len(seen) == 24
    assert len(loader.unreadable) == 1 and str(broken) in next(iter(loader.unreadable))


def test_only_wanted_images_are_drawn(dataset):
    names = set()

    def remember(scene, random, others):
        wanted = dataset[1]["image_id"], dataset[5]["image_id"]
        assert others.draw(random, lambda record: False) is None
        other = others.draw(random, lambda record: record["image_id"] in wanted and not names.add(record["image_id"]))
        return other or scene

    mapper = mixing_mapper(remember)
    mapper.mix_from(dataset)
    for _ in range(10):
        mapper(dataset[0])
    assert names == {dataset[1]["image_id"], dataset[5]["image_id"]}


def test_mixing_belongs_to_the_training_loader(dataset):
    with pytest.raises(UserError, match=r"dataloader\.train\.mapper\.mixing"):
        mixing_mapper(half_of_another)(dataset[0])
    assert DetectionMapper([], mixing=None)(dataset[0])["image"].any()  # `mixing=null` of a command line
    with pytest.raises(UserError, match="mixes nothing"):
        mixing_mapper("mosaic")


@pytest.mark.parametrize("place", [(0, 0), (3, 0), (0, 2), (5, 4), (2, 3)])
def test_a_mask_in_a_window_is_encoded_as_in_its_image(place):
    left, top = place
    for seed in range(5):
        bits = np.random.default_rng(seed).random((6, 5)) < 0.6
        whole = np.zeros((10, 10), np.uint8)
        whole[top : top + 6, left : left + 5] = bits
        rle = encode_window(MaskWindow(left, top, bits), (10, 10))
        assert (mask_util.decode(rle) == whole).all()
    tall = np.ones((10, 3), bool)  # runs that meet at the image's edges
    rle = encode_window(MaskWindow(left, 0, tall), (10, 10))
    assert mask_util.area(rle) == 30
    assert new_annotation(MaskWindow(left, 0, tall), (10, 10), 2)["bbox"] == [left, 0, 3, 10]
