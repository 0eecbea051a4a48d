"""The pooler of the cascade beside detectron2's."""

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rcnn.region_pooler import RegionPooler

SETTINGS = {"output_size": 7, "scales": (1 / 4, 1 / 8, 1 / 16, 1 / 32), "pooler_type": "ROIAlignV2"}


def feature_maps(seed: int, height: int = 96, width: int = 128) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(height // stride, width // stride) for stride in (4, 8, 16, 32)]
    return [torch.randn(2, 4, *size, generator=generator, requires_grad=True) for size in sizes]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), samples=st.sampled_from([1, 2, 3]), spread=st.sampled_from([0.2, 1.0, 4.0]))
def test_features_and_gradients_are_those_of_detectron2_also_for_boxes_outside_of_the_picture(seed, samples, spread):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, 5, 2, generator=generator) * spread * 128 - (spread - 1) * 64
    boxes = torch.cat([corners, corners + torch.rand(2, 5, 2, generator=generator) * spread * 128 + 1], -1)
    ours, theirs = feature_maps(seed), feature_maps(seed)
    pooler = RegionPooler(sampling_ratio=samples, **SETTINGS)
    found = pooler(pooler.prepare(ours), boxes)
    expected = ROIPooler(sampling_ratio=samples, **SETTINGS)(theirs, [Boxes(b) for b in boxes])
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-3)
    found.square().sum().backward()
    expected.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-2)


def test_boxes_that_are_not_finite_end_in_no_error():
    pooler = RegionPooler(sampling_ratio=2, **SETTINGS)
    boxes = torch.full((2, 3, 4), float("nan"))
    assert pooler(pooler.prepare(feature_maps(0)), boxes).shape == (6, 49, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same():
    pooler = RegionPooler(sampling_ratio=2, **SETTINGS)
    boxes = torch.tensor([[[0.0, 0, 64, 64]], [[10.0, 5, 30, 90]]])
    maps = feature_maps(0)
    on_gpu = pooler(pooler.prepare([level.cuda() for level in maps]), boxes.cuda())
    torch.testing.assert_close(on_gpu.cpu(), pooler(pooler.prepare(maps), boxes), rtol=1e-3, atol=1e-3)
