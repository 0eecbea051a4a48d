"""What reaches the model: images, boxes and masks under the same geometry, in a reproducible order."""

import gc
import itertools
import json
import threading

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from detectron2.utils import comm

from tests.data.coco_sets import reference, write_set
from xray_lazy.data import loaders
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.loaders import TestLoader as EvaluationLoader  # a name with Test would be collected
from xray_lazy.data.loaders import TrainLoader
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.picture_cache import PictureCache
from xray_lazy.data.sampling import ShuffledEpochs
from xray_lazy.data.validation_loader import ValidationLoader
from xray_lazy.errors import RunFailure, UserError


@pytest.fixture
def dataset(tmp_path):
    write_set(tmp_path, count=8)
    return load_datasets(reference(tmp_path))


def make_loader(dataset, num_workers=0, batch=4, **options):
    mapper = DetectionMapper([T.ResizeShortestEdge((32, 48, 64), sample_style="choice"), T.RandomFlip()])
    return TrainLoader(dataset, mapper, ShuffledEpochs(seed=1), batch, num_workers, **options)


def first_batches(loader, count, start=0):
    return list(itertools.islice(loader.batches(start), count))


def test_masks_and_boxes_follow_the_image(dataset):
    sample = DetectionMapper([T.Resize((96, 128)), T.RandomFlip(prob=1.0)])(dataset[0])
    instances = sample["instances"]
    assert sample["image"].shape == (3, 96, 128) and (sample["height"], sample["width"]) == (48, 64)
    # the item at x 5..25, y 6..21 of a 64x48 image, doubled and mirrored
    assert instances.gt_boxes.tensor.tolist() == [[128 - 50, 12, 128 - 10, 42]]
    inside = instances.gt_masks.tensor[0]
    assert inside[12:42, 78:118].float().mean() > 0.95 and inside.sum() <= 40 * 30 * 1.05
    blue = sample["image"][0].float()
    assert blue[inside].mean() > 150 and sample["image"][2].float()[inside].mean() < 60


def test_a_set_with_boxes_only_needs_no_masks(tmp_path):
    write_set(tmp_path, masks=False)
    dataset = load_datasets(reference(tmp_path))
    sample = DetectionMapper([], with_masks=False)(dataset[0])
    assert not dataset.has_masks
    assert len(sample["instances"]) == 1 and not sample["instances"].has("gt_masks")


def test_an_empty_bag_has_instances_of_the_same_kind(dataset):
    instances = DetectionMapper([T.Resize((24, 32))])(dataset[3])["instances"]
    assert len(instances) == 0 and instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_masks.tensor.shape == (0, 24, 32)


def test_mapping_does_not_change_the_data_set(dataset):
    before = repr(list(dataset))
    DetectionMapper([T.Resize((20, 30)), T.RandomFlip(prob=1.0)])(dataset[0])
    assert repr(list(dataset)) == before


def test_a_image_of_another_size_than_the_set_says_is_an_error_with_the_fix(dataset):
    with pytest.raises(UserError, match=r"64x48.*99x48") as error:
        DetectionMapper([])({**dataset[0], "width": 99})
    assert "repair" in error.value.fix


RELATIVE_CROP = T.AugmentationList([T.RandomCrop("relative", (0.2, 0.2)), T.RandomCrop("relative", (0.4, 0.4))])


@pytest.mark.parametrize("size", [(3000, 2), (2, 3000), (1, 5000)])
@pytest.mark.parametrize("way", ["fast", "plain", "cached"])
@pytest.mark.parametrize(
    "change", [T.ResizeShortestEdge([8, 16], 100, "choice"), T.ResizeScale(0.1, 0.1, 64, 64), RELATIVE_CROP]
)
def test_a_very_thin_image_keeps_a_pixel_of_its_width(tmp_path, size, way, change):
    path = str(tmp_path / "thin.png")
    cv2.imwrite(path, np.full((*size, 3), 200, np.uint8))
    annotation = {
        "bbox": [0.0, 0.0, *map(float, size[::-1])],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "iscrowd": 0,
    }
    record = {"file_name": path, "height": size[0], "width": size[1], "annotations": [annotation]}
    cache = PictureCache(str(tmp_path / "cache") if way == "cached" else None)
    mapper = DetectionMapper([change], with_masks=False, plain=way == "plain", cache=cache)
    for _ in range(3):
        sample = mapper(record)
        height, width = sample["image"].shape[1:]
        assert min(height, width) == 1
        assert np.allclose(sample["instances"].gt_boxes.tensor, [[0, 0, width, height]], atol=1e-4)
        assert sample["image"].float().mean() == 200


def failing_mapper(record):
    raise (
        KeyError("an augmentation's own fault") if record["image_id"] == 11 else UserError("the mask is odd", "mend it")
    )


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_error_of_a_mapper_names_its_image(dataset, num_workers):
    with pytest.raises(RunFailure, match=r"bag_1\.png can't be prepared.*KeyError.*own fault"):
        list(EvaluationLoader(dataset[1:2], failing_mapper, num_workers=num_workers))
    with pytest.raises(UserError, match=r"bag_0\.png: the mask is odd\nfix: mend it"):
        list(EvaluationLoader(dataset[:1], failing_mapper, num_workers=num_workers))


def test_batches_do_not_depend_on_the_number_of_workers(dataset):
    alone = first_batches(make_loader(dataset, num_workers=0), 5)
    workers = first_batches(make_loader(dataset, num_workers=2), 5)
    for one, other in zip(itertools.chain(*alone), itertools.chain(*workers), strict=True):
        assert one["image_id"] == other["image_id"] and torch.equal(one["image"], other["image"])


def test_a_resumed_loader_gives_the_batches_that_were_to_come(dataset):
    whole = first_batches(make_loader(dataset), 6)
    resumed = first_batches(make_loader(dataset), 3, start=3)
    for one, other in zip(itertools.chain(*whole[3:]), itertools.chain(*resumed), strict=True):
        assert one["image_id"] == other["image_id"] and torch.equal(one["image"], other["image"])


def test_reading_leaves_the_random_state_of_training_alone(dataset):
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    first_batches(make_loader(dataset), 2)
    assert np.random.rand() == expected


def test_unreadable_images_are_skipped_counted_and_limited(dataset, caplog):
    for record in dataset[:3]:
        with open(record["file_name"], "r+b") as stream:
            stream.truncate(60)
    loader = make_loader(dataset, max_unreadable=3)
    assert all(len(batch) == 4 for batch in first_batches(loader, 6))
    assert len(loader.unreadable) == 3 and "skipped an unreadable image" in caplog.text
    with pytest.raises(UserError, match="could not be read") as raised:
        first_batches(make_loader(dataset, max_unreadable=2), 6)
    assert "fix:" not in raised.value.message, "of the image, beside that of the set"


def test_a_image_that_cannot_be_evaluated_is_an_error_also_from_a_worker(dataset):
    with open(dataset[2]["file_name"], "r+b") as stream:
        stream.truncate(60)
    loader = EvaluationLoader(dataset, DetectionMapper([], is_train=False), num_workers=1)
    with pytest.raises(UserError, match="bag_2") as error:
        list(loader)
    assert "Traceback" not in str(error.value)


def test_evaluation_sees_every_image_once_without_annotations(dataset):
    loader = EvaluationLoader(dataset, DetectionMapper([], is_train=False), batch_size=3, num_workers=0)
    samples = [sample for batch in loader for sample in batch]
    assert [s["image_id"] for s in samples] == [record["image_id"] for record in dataset]
    assert all("instances" not in s for s in samples)


@pytest.mark.parametrize("world_size", [1, 2])
def test_validation_mixes_sizes_and_shares_each_batch_between_the_processes(tmp_path, monkeypatch, world_size):
    write_set(tmp_path / "small", count=4)
    write_set(tmp_path / "large", count=5, size=(96, 64))
    both = load_datasets([reference(tmp_path / "small"), reference(tmp_path / "large")])
    records = [both[place] for place in (0, 4, 5, 1, 6, 2, 7, 3, 8)]
    shares = []
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        shares.append(list(ValidationLoader(records, DetectionMapper([]), 4, num_workers=0)))
    assert [[weight for _, weight in share] for share in shares] == [[4, 4, 1]] * world_size
    seen = [[s["image_id"] for batch in batches for s in batch[0]] for batches in zip(*shares, strict=True)]
    ids = [record["image_id"] for record in records]
    assert [sorted(batch) for batch in seen] == [sorted(ids[:4]), sorted(ids[4:8]), ids[8:] * 4]
    assert len({tuple(s["image"].shape) for batch, _ in shares[0] for s in batch}) == 2


def test_lists_of_a_config_reach_augmentations_as_plain_ones_that_draw_the_same(dataset):
    node = LazyCall(T.ResizeShortestEdge)(short_edge_length=(32, 48, 64), sample_style="choice")
    mapper = DetectionMapper(instantiate([node]))
    assert type(mapper.augmentations.augs[0].short_edge_length) is list
    plain = DetectionMapper([T.ResizeShortestEdge((32, 48, 64), sample_style="choice")])
    for seed in range(5):
        shapes = []
        for one in (mapper, plain):
            np.random.seed(seed)
            shapes.append(one(dataset[0])["image"].shape)
        assert shapes[0] == shapes[1]


def test_uncompressed_masks_are_trained_on(tmp_path):
    content = write_set(tmp_path, count=1)
    # a bar over the rows 10..19 of the columns 5..24 of a 64x48 image, counted down the columns
    counts = [5 * 48 + 10, *[10, 38] * 19, 10, 64 * 48 - 24 * 48 - 20]
    content["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": counts}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    mask = DetectionMapper([])(load_datasets(reference(tmp_path))[0])["instances"].gt_masks.tensor[0]
    assert mask.sum() == 200 and mask[10:20, 5:25].all()


def test_a_mask_of_another_size_than_its_image_is_an_error(dataset):
    record = {**dataset[0], "annotations": [dict(dataset[0]["annotations"][0])]}
    record["annotations"][0]["segmentation"] = {"size": [48, 99], "counts": "PPR1"}
    with pytest.raises(UserError, match=r"99x48.*64x48"):
        DetectionMapper([])(record)


@pytest.mark.parametrize("counts", ["T3b1:", "T3b1Xi8"], ids=["too few", "too many"])
@pytest.mark.parametrize("augmentations", [[], [T.RandomRotation([5, 5])]], ids=["as it is", "rotated"])
def test_a_mask_whose_runs_do_not_add_up_is_an_error(dataset, counts, augmentations):
    record = dataset[0]
    record["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": counts}
    with pytest.raises(UserError, match="do not add up") as error:
        DetectionMapper(augmentations)(record)
    assert "check" in error.value.fix


def test_workers_leave_the_objects_that_they_share_to_themselves(dataset):
    class FrozenObjects:
        def __call__(self, record):
            return {"frozen": gc.get_freeze_count()}

    alone = next(TrainLoader(dataset, FrozenObjects(), ShuffledEpochs(seed=0), 1, num_workers=0).batches(0))
    worker = next(TrainLoader(dataset, FrozenObjects(), ShuffledEpochs(seed=0), 1, num_workers=1).batches(0))
    assert worker[0]["frozen"] > alone[0]["frozen"] + 10_000


@pytest.mark.parametrize(
    ("error", "told"),
    [(EOFError(), False), (ConnectionResetError(), False), (ValueError("a fault"), True), (OSError("no space"), True)],
)
def test_a_thread_of_a_reader_tells_errors_but_for_a_connection_that_training_left(error, told, capsys):
    thread = threading.Thread(target=loaders._print_unless_connection_is_lost, args=(type(error), error, None))
    thread.start()
    thread.join()
    assert bool(capsys.readouterr().err) == told


def test_the_main_thread_of_a_reader_tells_all_errors(capsys):
    loaders._print_unless_connection_is_lost(EOFError, EOFError("cut off"), None)
    assert "EOFError" in capsys.readouterr().err
