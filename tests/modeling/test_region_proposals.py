"""Our parts of R-CNN's training step, which work on whole batches, beside detectron2's."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform, Box2BoxTransformLinear, _dense_box_regression_loss
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, MaskRCNNConvUpsampleHead, StandardROIHeads
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_lazy.config import get_config
from xray_lazy.modeling import object_matching
from xray_lazy.modeling.anchors import AnchorGenerator
from xray_lazy.modeling.box_losses import box_loss
from xray_lazy.modeling.object_matching import PaddedBoxes, match_objects
from xray_lazy.modeling.region_proposals import best_proposals, nms_by_level

SIZE = (64, 96)
LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
seeds = st.integers(0, 10**6)


def boxes_of(count, random, extent=60.0):
    corners = torch.rand(count, 2, generator=random) * torch.tensor([SIZE[1] - 8.0, SIZE[0] - 8.0])
    # whole numbers, so that some overlaps are equal and some boxes the same
    return torch.cat([corners, corners + 2 + torch.rand(count, 2, generator=random) * extent], 1).round()


@settings(max_examples=80, deadline=None)
@given(
    seed=seeds,
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    boxes=st.integers(1, 40),
    low_quality=st.booleans(),
    shared=st.booleans(),
    at_a_time=st.sampled_from([1, 100, 2**24]),
)
def test_objects_are_matched_as_detectron2_does(seed, counts, boxes, low_quality, shared, at_a_time):
    random = torch.Generator().manual_seed(seed)
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=low_quality)
    objects = [boxes_of(count, random) for count in counts]
    others = torch.stack([boxes_of(boxes, random) for _ in (counts[:1] if shared else counts)])
    whole, object_matching.OVERLAPS = object_matching.OVERLAPS, at_a_time
    try:
        found, labels = match_objects(PaddedBoxes.collect(objects), others, matcher)
    finally:
        object_matching.OVERLAPS = whole
    for image, of_image in enumerate(objects):
        quality = pairwise_iou(Boxes(of_image), Boxes(others[0 if shared else image]))
        expected, expected_labels = matcher(quality)
        assert torch.equal(labels[image], expected_labels)
        assert torch.equal(found[image], expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds,
    kind=st.sampled_from(["smooth_l1", "giou", "diou", "ciou"]),
    beta=st.sampled_from([0.0, 0.5]),
    linear=st.booleans(),
)
def test_box_losses_are_detectron2s(seed, kind, beta, linear):
    random = torch.Generator().manual_seed(seed)
    boxes, wanted = boxes_of(12, random), boxes_of(12, random)
    counted = torch.rand(12, generator=random) < 0.6
    boxes[~counted, 2:] = boxes[~counted, :2]  # without extent: their deltas are not finite
    transform = Box2BoxTransformLinear() if linear else Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    start = 0.1 + torch.rand(12, 4, generator=random)
    losses, gradients = [], []
    for ours in (True, False):
        deltas = start.clone().requires_grad_()
        if ours:
            loss = box_loss(deltas[None], boxes[None], wanted[None], counted[None], transform, kind, beta)
        else:
            chosen = (values[counted] for values in (boxes, deltas, wanted))
            anchors, of_anchors, gt = chosen
            loss = _dense_box_regression_loss([anchors], transform, [of_anchors[None]], [gt], ..., kind, beta)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(deltas.grad)
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds,
    images=st.integers(1, 3),
    before=st.sampled_from([3, 40, 500]),
    count=st.sampled_from([1, 20, 400]),
    smallest=st.sampled_from([0.0, 6.0]),
)
def test_proposals_are_detectron2s(seed, images, before, count, smallest):
    random = torch.Generator().manual_seed(seed)
    anchors = [Boxes(boxes_of(number, random)) for number in (300, 80, 20, 2)]
    logits = [torch.randn(images, len(level), generator=random) for level in anchors]
    # far out of the image, too, where nothing of them stays
    deltas = [torch.randn(images, len(level), 4, generator=random) * 2 for level in anchors]
    transform, sizes = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)), [SIZE, (50, 70), (64, 64)][:images]
    found, is_finite = best_proposals(anchors, logits, deltas, transform, sizes, 0.7, before, count, smallest)
    decoded = [
        transform.apply_deltas(d.flatten(0, 1), a.tensor.repeat(images, 1)).view_as(d)
        for a, d in zip(anchors, deltas, strict=True)
    ]
    expected = find_top_rpn_proposals(decoded, logits, sizes, 0.7, before, count, smallest, True)
    assert is_finite
    for one, other in zip(found, expected, strict=True):
        assert one.image_size == other.image_size and len(one) == len(other)
        assert torch.equal(one.objectness_logits, other.objectness_logits)
        assert torch.equal(one.proposal_boxes.tensor, other.proposal_boxes.tensor)


def test_proposals_that_are_not_finite_are_left_out_and_told():
    anchors = [Boxes(boxes_of(30, torch.Generator().manual_seed(0)))]
    logits, deltas = [torch.randn(2, 30)], [torch.zeros(2, 30, 4)]
    logits[0][0, 3], deltas[0][1, 5, 2] = torch.nan, torch.inf
    deltas[0][1, 7, 0] = torch.nan
    transform = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
    found, is_finite = best_proposals(anchors, logits, deltas, transform, [SIZE, SIZE], 0.7, 30, 30, 0.0)
    assert not is_finite
    assert all(of_image.proposal_boxes.tensor.isfinite().all() and len(of_image) for of_image in found)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, count=st.integers(1, 60))
def test_nms_of_all_levels_at_once_leaves_what_it_leaves_level_by_level(seed, count):
    random = torch.Generator().manual_seed(seed)
    boxes, scores = boxes_of(count, random), torch.rand(count, generator=random)
    levels = torch.randint(3, (count,), generator=random)
    expected = nms_by_level(boxes, scores, levels, 0.5)
    assert torch.equal(nms_by_level(OnAnotherDevice(boxes), scores, levels, 0.5), expected)


class OnAnotherDevice(torch.Tensor):
    """Says so, with its numbers on the CPU."""

    device = torch.device("meta")


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_anchors_are_detectron2s(offset):
    node = {"sizes": [[32], [64, 90]], "aspect_ratios": [0.5, 1.0, 2.0], "strides": [4, 8], "offset": offset}
    features = [torch.zeros(1, 2, 7, 11), torch.zeros(1, 2, 4, 6)]
    for one, other in zip(AnchorGenerator(**node)(features), DefaultAnchorGenerator(**node)(features), strict=True):
        assert torch.equal(one.tensor, other.tensor)


def model_parts(plain, **heads):
    """RPN and ROI heads that draw all there is, so that what is drawn is the same for both."""
    node = get_config("common/models/mask_rcnn_r18_small.py").model
    for head in (node.roi_heads.box_head, node.roi_heads.mask_head):
        head.input_shape.channels = 8
    rpn, roi_heads = node.proposal_generator, node.roi_heads
    rpn.head.in_channels = 8
    rpn.update(batch_size_per_image=10**6, positive_fraction=1.0, pre_nms_topk=(60, 60), post_nms_topk=(30, 30))
    roi_heads.update(num_classes=3, batch_size_per_image=10**6, positive_fraction=1.0)
    roi_heads.box_head.fc_dims, roi_heads.box_predictor.input_shape.channels = [16], 16
    roi_heads.mask_head.conv_dims = [8, 8]
    roi_heads.update(heads)
    if plain:
        rpn._target_, roi_heads._target_ = RPN, StandardROIHeads
        roi_heads.box_predictor._target_, roi_heads.mask_head._target_ = FastRCNNOutputLayers, MaskRCNNConvUpsampleHead
    rpn.seed = roi_heads.seed = 0
    if plain:
        del rpn["seed"], roi_heads["seed"]
    torch.manual_seed(0)
    return instantiate(rpn).train(), instantiate(roi_heads).train()


def batch_of(counts, random):
    instances = []
    for count in counts:
        of_image = Instances(SIZE, gt_boxes=Boxes(boxes_of(count, random, 40)))
        of_image.gt_boxes.clip(SIZE)
        of_image.gt_classes = torch.randint(3, (count,), generator=random)
        of_image.gt_masks = BitMasks(torch.rand(count, *SIZE, generator=random) < 0.7)
        instances.append(of_image)
    maps = {
        name: torch.randn(len(counts), 8, SIZE[0] // stride, SIZE[1] // stride, generator=random)
        for name, stride in LEVELS.items()
    }
    return ImageList(torch.zeros(len(counts), 3, *SIZE), [SIZE] * len(counts)), maps, instances


@settings(max_examples=15, deadline=None)
@given(
    seed=seeds,
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    append=st.booleans(),
)
def test_losses_gradients_and_logged_numbers_are_detectron2s(seed, counts, append):
    results = []
    images, maps, instances = batch_of(counts, torch.Generator().manual_seed(seed))
    for plain in (False, True):
        rpn, roi_heads = model_parts(plain, proposal_append_gt=append)
        features = {name: level.clone().requires_grad_() for name, level in maps.items()}
        with EventStorage(1) as storage:
            proposals, losses = rpn(images, features, instances)
            sampled, more = roi_heads(images, features, proposals, instances)
        losses |= more
        sum(losses.values()).backward()
        gradients = {name: level.grad for name, level in features.items()}
        logged = {name: value for name, (value, _) in storage.latest().items()}
        found = sorted(tuple(box) for i in sampled for box in i.proposal_boxes.tensor.tolist())
        results.append((losses, gradients, logged, found))
    (losses, gradients, logged, found), (their_losses, their_gradients, their_logged, expected) = results
    assert found == expected
    torch.testing.assert_close(losses, their_losses, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients, their_gradients, rtol=1e-3, atol=1e-6)
    assert logged == pytest.approx(their_logged, rel=1e-5, abs=1e-6)
