"""ROIAlign by gathering cells, beside torchvision's."""

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xray_lazy.prediction.region_pooling import GatheringPooler, use_gathering_poolers

SCALES = [1 / 4, 1 / 8, 1 / 16]
HEIGHT, WIDTH = 96, 128


def feature_maps(pictures, scales, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(pictures, 5, int(HEIGHT * s), int(WIDTH * s), generator=random) for s in scales]


def assert_same(pooler, boxes, features):
    with torch.inference_mode():
        expected = pooler(features, boxes)
        channels_last = [feature.contiguous(memory_format=torch.channels_last) for feature in features]
        for given_features in (features, channels_last):
            pooled = GatheringPooler(pooler)(given_features, boxes)
            assert pooled.shape == expected.shape
            torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-4)


coordinate = st.floats(-60, 200, width=32)
box = st.tuples(coordinate, coordinate, st.floats(0, 200, width=32), st.floats(0, 200, width=32))


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.lists(box, max_size=6), min_size=1, max_size=3),
    sampling_ratio=st.sampled_from([0, 1, 2, 3]),
    output_size=st.sampled_from([1, 7, 14]),
)
def test_wild_boxes_have_torchvisions_features(boxes, sampling_ratio, output_size):
    pooler = ROIPooler(output_size, SCALES, sampling_ratio, "ROIAlignV2", canonical_box_size=56)
    # low corner and extent
    tensors = [torch.tensor(of_picture).reshape(-1, 4) for of_picture in boxes]
    boxes = [Boxes(torch.cat([t[:, :2], t[:, :2] + t[:, 2:]], 1)) for t in tensors]
    assert_same(pooler, boxes, feature_maps(len(boxes), SCALES))


def test_one_level_and_no_boxes():
    pooler = ROIPooler(7, [1 / 8], 2, "ROIAlignV2")
    assert_same(pooler, [Boxes(torch.tensor([[3.0, 4.0, 90.0, 60.0]]))], feature_maps(1, [1 / 8]))
    assert_same(pooler, [Boxes(torch.zeros(0, 4))], feature_maps(1, [1 / 8]))
    levels = ROIPooler(7, SCALES, 2, "ROIAlignV2")
    assert_same(levels, [Boxes(torch.zeros(0, 4))] * 2, feature_maps(2, SCALES))


def test_with_gradients_the_pooler_itself_works():
    pooler = ROIPooler(7, SCALES, 2, "ROIAlignV2")
    features = [feature.requires_grad_() for feature in feature_maps(1, SCALES)]
    GatheringPooler(pooler)(features, [Boxes(torch.tensor([[3.0, 4.0, 30.0, 20.0]]))]).sum().backward()
    assert features[0].grad.abs().sum() > 0


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
    assert use_gathering_poolers(model) == replaced
    assert use_gathering_poolers(model) == 0
    assert isinstance(model["pooler"], GatheringPooler) == bool(replaced)
