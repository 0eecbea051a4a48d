"""Our PointRend head and the one of detectron2 are one network, with the same losses; points know their masks."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.projects.point_rend.mask_head import PointRendMaskHead as Theirs
from detectron2.projects.point_rend.point_features import sample_point_labels
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from xray_lazy.data.masks.mask_rasters import MaskWindow
from xray_lazy.data.masks.placed_masks import PlacedMasks, shares_at
from xray_lazy.modeling.point_rend import PointRendMaskHead

CLASSES, CHANNELS = 3, 8


@pytest.fixture(scope="module")
def heads():
    """detectron2's head and ours, with its weights."""
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = CLASSES
    head, points = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
    head.POINT_HEAD_ON, head.POOLER_RESOLUTION, head.FC_DIM, head.CONV_DIM = True, 14, 16, CHANNELS
    points.FC_DIM = 16
    torch.manual_seed(0)
    theirs = Theirs(cfg, {"p2": ShapeSpec(channels=CHANNELS, stride=4)})
    ours = PointRendMaskHead(num_classes=CLASSES, in_channels=CHANNELS, fc_dims=(16, 16), point_dims=(16, 16, 16))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture
def features():
    torch.manual_seed(1)
    return {"p2": torch.randn(2, CHANNELS, 16, 24)}


def placed(*corners, size=(64, 96)):
    """Rectangles that are one window each."""
    windows = [MaskWindow(x, y, np.ones((h, w), bool)) for x, y, w, h in corners]
    return PlacedMasks.place(windows, size)


def targets(*counts):
    """Instances of images with so many objects."""
    images = []
    for number, count in enumerate(counts):
        of_image = Instances((64, 96))
        corners = [(10 + 5 * place, 8 + number, 20, 12 + place) for place in range(count)]
        boxes = torch.tensor([[x - 2.0, y - 1, x + w + 3, y + h + 2] for x, y, w, h in corners]).reshape(-1, 4)
        of_image.proposal_boxes = Boxes(boxes)
        of_image.gt_classes = torch.arange(count) % CLASSES
        of_image.gt_masks = placed(*corners)
        images.append(of_image)
    return images


@pytest.mark.parametrize("counts", [(2, 1), (0, 3), (0, 0)])
def test_masks_are_those_of_detectron2(heads, features, counts):
    masks = []
    for head in heads:
        found = [Instances((64, 96)) for _ in counts]
        for of_image, target in zip(found, targets(*counts), strict=True):
            of_image.pred_boxes, of_image.pred_classes = target.proposal_boxes, target.gt_classes
        with torch.no_grad():
            head.eval()(features, found)
        masks.append(torch.cat([of_image.pred_masks for of_image in found]))
    assert torch.equal(*masks)
    assert not sum(counts) or masks[0].shape == (sum(counts), 1, 224, 224)


@pytest.mark.parametrize("counts", [(2, 1), (0, 3)])
def test_losses_are_those_of_detectron2(heads, features, counts):
    losses = []
    for head in heads:
        instances = targets(*counts)
        torch.manual_seed(2)
        with EventStorage():
            losses.append(head.train()(features, instances))
    theirs, ours = losses
    assert theirs.keys() == ours.keys() == {"loss_mask", "loss_mask_point"}
    for name, loss in theirs.items():
        torch.testing.assert_close(ours[name], loss)


def test_without_objects_losses_are_nothing_and_have_a_gradient_for_each_weight(heads, features):
    ours = heads[1].train()
    ours.zero_grad()
    with EventStorage():
        losses = ours(features, targets(0, 0))
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(parameter.grad is not None for parameter in ours.parameters())


@pytest.mark.parametrize("chosen", [[0, 1, 2], [2, 0, 0]])
def test_masks_of_a_window_cover_points_as_bitmaps_of_the_image_do(chosen):
    masks = placed((0, 0, 7, 9), (30, 20, 11, 5), (85, 54, 11, 10))[torch.tensor(chosen)]
    torch.manual_seed(3)
    points = torch.rand(3, 400, 2) * torch.tensor([100.0, 70.0]) - 3
    instances = Instances((64, 96))
    instances.gt_masks = BitMasks(masks.to("cpu").tensor)
    expected = sample_point_labels([instances], points)
    assert 0 < expected.mean() < 1
    torch.testing.assert_close(shares_at(masks, points), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(shares_at(instances.gt_masks, points), expected, atol=1e-5, rtol=0)
