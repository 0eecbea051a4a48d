"""Batches reach the device as a whole, and in pinned memory where a GPU is in use."""

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks, RotatedBoxes

from tests.data.coco_sets import reference, write_set
from xray_lazy.data.datasets import load_datasets
from xray_lazy.data.loaders import TrainLoader
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.memory.batch_memory import PinnableBatch, to_device
from xray_lazy.data.sampling import ShuffledEpochs
from xray_lazy.errors import UserError


def sample():
    square = np.array([1.0, 1, 5, 1, 5, 5, 1, 5])
    instances = Instances(
        (8, 9),
        gt_boxes=Boxes(torch.rand(2, 4)),
        gt_rotated=RotatedBoxes(torch.rand(2, 5)),
        gt_classes=torch.tensor([0, 1]),
        gt_masks=BitMasks(torch.rand(2, 8, 9) > 0.5),
        gt_polygons=PolygonMasks([[square], [square]]),
        gt_keypoints=Keypoints(torch.rand(2, 3, 3)),
        gt_names=["gun", "knife"],
    )
    proposals = Instances((8, 9), proposal_boxes=Boxes(torch.rand(3, 4)))
    image = torch.zeros(3, 8, 9, dtype=torch.uint8)
    return {"image": image, "instances": instances, "proposals": proposals, "file_name": "a.png", "height": 80}


def tensors_of(value):
    """All tensors in a sample by their path; other values stand for themselves."""
    if isinstance(value, dict):
        return {f"{name}.{path}": t for name, item in value.items() for path, t in tensors_of(item).items()}
    if isinstance(value, Instances):
        return tensors_of({"size": value.image_size, **value.get_fields()})
    tensor = getattr(value, "tensor", value)
    return {type(value).__name__: tensor}


def test_on_the_cpu_a_batch_stays_what_it_is():
    batch = [sample()]
    assert to_device(batch, torch.device("cpu")) is batch


def test_every_tensor_gets_to_the_device_and_all_else_stays():
    original = sample()
    moved = to_device([original, original], torch.device("meta"))
    assert len(moved) == 2
    before, after = tensors_of(original), tensors_of(moved[1])
    assert before.keys() == after.keys()
    for path, value in before.items():
        if isinstance(value, torch.Tensor):
            assert after[path].device.type == "meta" and value.device.type == "cpu", path
            assert (after[path].shape, after[path].dtype) == (value.shape, value.dtype)
        else:
            assert after[path] == value


def test_a_model_that_moves_its_batch_finds_it_moved():
    [moved] = to_device([sample()], torch.device("meta"))
    device = torch.device("meta")
    assert moved["image"].to(device) is moved["image"]
    assert moved["instances"].to(device).gt_classes is moved["instances"].gt_classes


def test_an_error_in_place_of_a_sample_passes():
    error = UserError("an image can't be read", "repair it")
    assert PinnableBatch([error]).samples == to_device([error], torch.device("meta")) == [error]


@pytest.mark.gpu
def test_batches_arrive_whole_while_the_gpu_is_busy_with_the_ones_before():
    device, busy = torch.device("cuda"), torch.rand(4096, 4096, device="cuda")
    sums, expected = [], []
    for number in range(20):
        for _ in range(5):
            busy = busy @ busy / busy.norm()
        [pinned] = PinnableBatch([{"image": torch.full((3, 500, 500), number)}]).pin_memory().samples
        [moved] = to_device([pinned], device)
        sums.append(moved["image"].sum())
        expected.append(number * 750_000)
        del pinned, moved
    assert torch.stack(sums).tolist() == expected


@pytest.mark.gpu
def test_pinning_keeps_the_values_of_every_tensor():
    original = sample()
    [pinned] = PinnableBatch([original]).pin_memory().samples
    for path, value in tensors_of(pinned).items():
        if isinstance(value, torch.Tensor):
            assert value.is_pinned() and torch.equal(value, tensors_of(original)[path]), path


@pytest.mark.gpu
@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_batches_are_pinned_where_the_process_uses_a_gpu(tmp_path, num_workers):
    torch.zeros(1, device="cuda")
    write_set(tmp_path)
    loader = TrainLoader(
        load_datasets(reference(tmp_path)), DetectionMapper([]), ShuffledEpochs(seed=0), 2, num_workers
    )
    batch = next(loader.batches(0))
    assert all(sample["image"].is_pinned() for sample in batch)
    moved = to_device(batch, torch.device("cuda"))
    assert torch.equal(moved[1]["image"].cpu(), batch[1]["image"])
