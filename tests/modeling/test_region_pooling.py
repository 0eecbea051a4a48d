"""ROIAlign by gathering cells, beside torchvision's."""

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xray_lazy.modeling.region_pooling import RegionPooler, channels_together, pooler_boxes, use_region_poolers

SCALES = [1 / 4, 1 / 8, 1 / 16]
HEIGHT, WIDTH = 96, 128


def feature_maps(images, scales=SCALES):
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(images, 5, int(HEIGHT * s), int(WIDTH * s), generator=random) for s in scales]
    return [feature.requires_grad_() for feature in maps]


def assert_same(settings, boxes, images):
    """Features and their gradients, of maps by channel and of those with channels together."""
    scales = settings[1]
    expected_of = feature_maps(images, scales)
    expected = ROIPooler(*settings, canonical_box_size=56)(expected_of, boxes)
    expected.square().sum().backward()
    for arrange in (list, channels_together):
        features = feature_maps(images, scales)
        pooled = RegionPooler(*settings, canonical_box_size=56)(arrange(features), boxes)
        assert pooled.shape == expected.shape
        torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)
        pooled.square().sum().backward()
        for one, other in zip(features, expected_of, strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-2)


coordinate = st.floats(-60, 200, width=32)
box = st.tuples(coordinate, coordinate, st.floats(0, 200, width=32), st.floats(0, 200, width=32))


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.lists(box, max_size=6), min_size=1, max_size=3),
    sampling_ratio=st.sampled_from([0, 1, 2, 3]),
    output_size=st.sampled_from([1, 7, 14]),
)
def test_wild_boxes_have_torchvisions_features_and_gradients(boxes, sampling_ratio, output_size):
    # low corner and extent
    tensors = [torch.tensor(of_image).reshape(-1, 4) for of_image in boxes]
    boxes = [Boxes(torch.cat([t[:, :2], t[:, :2] + t[:, 2:]], 1)) for t in tensors]
    assert_same((output_size, SCALES, sampling_ratio, "ROIAlignV2"), boxes, len(boxes))


@settings(max_examples=60, deadline=None)
@given(boxes=st.lists(st.lists(box, max_size=6), min_size=1, max_size=3), sampling_ratio=st.sampled_from([0, 2]))
def test_what_a_gpu_does_gives_the_same(boxes, sampling_ratio):
    tensors = [torch.tensor(of_image).reshape(-1, 4) for of_image in boxes]
    boxes = [Boxes(torch.cat([t[:, :2], t[:, :2] + t[:, 2:]], 1)) for t in tensors]
    expected_of, features = feature_maps(len(boxes)), feature_maps(len(boxes))
    expected = ROIPooler(7, SCALES, sampling_ratio, "ROIAlignV2", canonical_box_size=56)(expected_of, boxes)
    pooler = RegionPooler(7, SCALES, sampling_ratio, "ROIAlignV2", canonical_box_size=56)
    pooled = pooler._of_all_levels(features, pooler_boxes(boxes), pooler._levels(boxes))
    assert torch.equal(pooled, expected)
    for maps, found in ((features, pooled), (expected_of, expected)):
        found.square().sum().backward()
        assert all(level.grad is not None for level in maps)
    for one, other in zip(features, expected_of, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_one_level_and_no_boxes():
    one_level = (7, [1 / 8], 2, "ROIAlignV2")
    assert_same(one_level, [Boxes(torch.tensor([[3.0, 4.0, 90.0, 60.0]]))], 1)
    pooler = RegionPooler(7, SCALES, 2, "ROIAlignV2")
    assert pooler(feature_maps(2), [Boxes(torch.zeros(0, 4))] * 2).shape == (0, 5, 7, 7)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_boxes_that_are_not_finite_end_in_no_error(sampling_ratio):
    pooler = RegionPooler(7, SCALES, sampling_ratio, "ROIAlignV2")
    boxes = [Boxes(torch.full((3, 4), float("nan")))] * 2
    assert pooler(feature_maps(2), boxes).shape == (6, 5, 7, 7)


@pytest.mark.parametrize("pooler_type", ["ROIAlign", "ROIPool"])
def test_other_types_are_left_to_detectron2(pooler_type):
    boxes = [Boxes(torch.tensor([[3.0, 4.0, 30.0, 20.0]]))]
    found, expected = (kind(7, SCALES, 2, pooler_type)(feature_maps(1), boxes) for kind in (RegionPooler, ROIPooler))
    assert torch.equal(found, expected)


@pytest.mark.gpu
def test_a_gpu_gives_the_same():
    pooler = RegionPooler(7, SCALES, 2, "ROIAlignV2")
    boxes = Boxes(torch.tensor([[0.0, 0, 64, 64], [10.0, 5, 30, 90]]))
    on_gpu = pooler(channels_together([level.cuda() for level in feature_maps(1)]), [boxes.to("cuda")])
    torch.testing.assert_close(on_gpu.cpu(), pooler(feature_maps(1), [boxes]), rtol=1e-3, atol=1e-3)


class OwnPooler(ROIPooler):
    pass


@pytest.mark.parametrize(
    ("pooler", "replaced"),
    [
        (ROIPooler(7, SCALES, 0, "ROIAlignV2"), 1),
        (ROIPooler(7, SCALES, 2, "ROIAlign"), 0),
        (ROIPooler(7, SCALES, 2, "ROIPool"), 0),
        (OwnPooler(7, SCALES, 2, "ROIAlignV2"), 0),
    ],
)
def test_only_what_it_can_stand_in_for_is_replaced_and_once(pooler, replaced):
    model = nn.ModuleDict({"pooler": pooler})
    assert use_region_poolers(model) == replaced
    assert use_region_poolers(model) == 0
    assert isinstance(model["pooler"], RegionPooler) == bool(replaced)


def test_a_replacement_has_the_settings_of_the_one_before():
    before = ROIPooler((5, 9), SCALES, 3, "ROIAlignV2", canonical_box_size=100, canonical_level=3)
    model = nn.ModuleDict({"pooler": before})
    use_region_poolers(model)
    assert repr(model["pooler"].level_poolers) == repr(before.level_poolers)
    for name in ("output_size", "min_level", "max_level", "canonical_box_size", "canonical_level"):
        assert getattr(model["pooler"], name) == getattr(before, name)
