"""A cache of decoded images changes no pixel, whoever writes or kills; and stays within its bounds."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from tests.data.coco_sets import reference, write_set
from xray_lazy.data import picture_cache
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.image_files.image_file import UnreadableImage
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.picture_cache import GIB, PictureCache
from xray_lazy.errors import UserError

SIZES = (24, 32, 48)
MULTI_SCALE = [T.ResizeShortestEdge(SIZES, 60, "choice"), T.RandomFlip()]


@pytest.fixture
def dataset(tmp_path):
    write_set(tmp_path / "set", count=6)
    return load_datasets(reference(tmp_path / "set"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def mapped(mapper, record, seed=0):
    np.random.seed(seed)
    return mapper(record)


def entries(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "augmentations",
    [
        MULTI_SCALE,
        [T.Resize((30, 41)), T.RandomFlip(horizontal=False, vertical=True)],
        [T.RandomFlip(), T.RandomBrightness(0.5, 1.5), T.Resize((30, 41))],
        [T.ResizeShortestEdge((20, 50), 60), T.RandomCrop("relative", (0.5, 0.5))],
        [T.ResizeShortestEdge((0, 0), 60, "choice")],
        [T.Resize((30, 41), interp=3)],
        [],
    ],
)
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_images_from_the_cache_are_those_from_the_files(dataset, folder, augmentations, image_format):
    direct = DetectionMapper(augmentations, image_format=image_format)
    cached = DetectionMapper(augmentations, image_format=image_format, cache=PictureCache(folder))
    for seed in range(6):
        for record in dataset:
            ours, expected = mapped(cached, record, seed), mapped(direct, record, seed)
            assert torch.equal(ours["image"], expected["image"])
            assert torch.equal(ours["instances"].gt_boxes.tensor, expected["instances"].gt_boxes.tensor)


def test_the_second_epoch_decodes_nothing_also_with_several_sizes(dataset, folder, monkeypatch):
    cached = DetectionMapper(MULTI_SCALE, cache=PictureCache(folder))
    for record in dataset:
        mapped(cached, record)
    monkeypatch.setattr(picture_cache, "read_record", None)
    for seed in range(20):
        mapped(cached, dataset[0], seed)


def test_a_changed_image_takes_the_place_of_its_old_entries(dataset, folder):
    cached = DetectionMapper(MULTI_SCALE, cache=PictureCache(folder))
    mapped(cached, dataset[0])
    count = len(entries(folder))
    changed = np.full((48, 64, 3), 77, np.uint8)
    cv2.imwrite(dataset[0]["file_name"], changed)
    assert (mapped(cached, dataset[0])["image"] == 77).all()
    assert len(entries(folder)) == count


def test_what_a_mapper_does_to_its_image_stays_out_of_the_cache(dataset, folder):
    cached = DetectionMapper([T.Resize((30, 41))], cache=PictureCache(folder))
    for _ in range(3):
        sample = cached(dataset[0])["image"]
        assert not (sample == 13).all()
        sample.fill_(13)


def test_it_takes_no_more_than_its_limit(dataset, folder):
    limit = 5 * 3 * 30 * 41
    cached = DetectionMapper([T.Resize((30, 41))], cache=PictureCache(folder, max_gib=limit / GIB))
    images = [cached(record)["image"] for record in dataset]
    assert len(entries(folder)) == 5 and sum(file.stat().st_size for file in entries(folder)) <= limit
    assert torch.equal(images[-1], DetectionMapper([T.Resize((30, 41))])(dataset[-1])["image"])
    another = DetectionMapper([T.Resize((31, 41))], cache=PictureCache(folder, max_gib=limit / GIB))
    another(dataset[0])
    assert len(entries(folder)) == 5


def test_a_file_that_a_power_failure_cut_off_is_made_again(dataset, folder):
    mapper = DetectionMapper([T.Resize((30, 41))], cache=PictureCache(folder))
    expected = mapper(dataset[0])["image"].clone()
    for size in (0, 100):
        os.truncate(entries(folder)[0], size)
        assert torch.equal(mapper(dataset[0])["image"], expected)
        assert entries(folder)[0].stat().st_size == 3 * 30 * 41


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_told_once_and_training_goes_on(dataset, folder, monkeypatch, caplog, number):
    def no_space(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(picture_cache.os, "replace", no_space)
    mapper = DetectionMapper([T.Resize((30, 41))], cache=PictureCache(folder))
    for record in dataset:
        assert torch.equal(mapper(record)["image"], DetectionMapper([T.Resize((30, 41))])(record)["image"])
    assert caplog.text.count("takes no more") == 1 and "cache.folder" in caplog.text
    assert ("its disk is full" in caplog.text) == (number == errno.ENOSPC)
    assert entries(folder) == []


def test_what_another_person_left_in_a_shared_cache_is_no_error(dataset, folder, monkeypatch):
    (folder / "ab").mkdir(parents=True)
    abandoned = folder / "ab" / ".0123.tmp"
    abandoned.touch()
    os.utime(abandoned, (0, 0))

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # as root, tests may delete whatever they like
    monkeypatch.setattr(Path, "unlink", refuse)
    DetectionMapper([T.Resize((30, 41))], cache=PictureCache(folder))(dataset[0])
    assert len(entries(folder)) == 2


def test_a_missing_image_and_a_wrong_size_are_told_as_without_a_cache(dataset, folder):
    mapper = DetectionMapper(MULTI_SCALE, cache=PictureCache(folder))
    with pytest.raises(UserError, match=r"64x48.*99x48"):
        mapper({**dataset[0], "width": 99})
    mapper(dataset[0])
    os.remove(dataset[0]["file_name"])
    with pytest.raises(UnreadableImage, match="does not exist"):
        mapper(dataset[0])


def test_a_limit_of_nothing_is_refused(folder):
    with pytest.raises(UserError, match="holds nothing"):
        PictureCache(folder, max_gib=0)


def read_again_and_again(dataset, folder):
    while True:
        mapper = DetectionMapper(MULTI_SCALE, cache=PictureCache(folder))
        for record in dataset:
            mapper(record)
            for entry in entries(folder)[::3]:
                entry.unlink(missing_ok=True)


def test_writers_that_are_killed_and_that_write_the_same_leave_nothing_half_done(dataset, folder, monkeypatch):
    context = multiprocessing.get_context("fork")
    for _ in range(4):
        processes = [context.Process(target=read_again_and_again, args=(dataset, folder)) for _ in range(3)]
        for process in processes:
            process.start()
        time.sleep(0.3)
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    for entry in entries(folder):
        height, _, width = entry.suffix[1:].partition("x")
        assert entry.suffix == ".tmp" or entry.stat().st_size == 3 * int(height) * int(width)
    direct, cached = DetectionMapper(MULTI_SCALE), DetectionMapper(MULTI_SCALE, cache=PictureCache(folder))
    for seed in range(4):
        for record in dataset:
            assert torch.equal(mapped(cached, record, seed)["image"], mapped(direct, record, seed)["image"])
    monkeypatch.setattr(picture_cache, "ABANDONED", -1)
    mapper = DetectionMapper([T.Resize((10, 10))], cache=PictureCache(folder))
    mapper(dataset[0])
    assert not [entry for entry in entries(folder) if entry.suffix == ".tmp"]
