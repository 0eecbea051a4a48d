"""Proposals from the image: which cells learn which object, which of them go on, and that the model learns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rcnn.dense_assignment import TaskAlignedAssigner
from sparse_rcnn.image_proposals import DensePredictions, ImageProposals
from sparse_rcnn.targets import Targets

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import detect, image, tiny_model, total

SIDE, STRIDE = 64, 8


def targets_of(*boxes, classes=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    classes = torch.zeros(len(boxes), dtype=torch.int64) if classes is None else torch.tensor(classes)
    return Targets(classes, boxes, [len(boxes)], torch.full((1, 4), float(SIDE)))


def cells():
    """Centers and strides of one level, and boxes of two cells' side around the centers."""
    places = (torch.arange(SIDE // STRIDE) + 0.5) * STRIDE
    centers = torch.stack(torch.meshgrid(places, places, indexing="xy"), -1).flatten(0, 1)
    return centers, torch.full((len(centers),), float(STRIDE)), torch.cat([centers - STRIDE, centers + STRIDE], 1)


def assign(targets, top_k=8, is_padding=None, scores=None):
    centers, strides, boxes = cells()
    is_padding = torch.zeros(1, len(centers), dtype=torch.bool) if is_padding is None else is_padding
    scores = torch.full((1, len(centers), 3), 0.1) if scores is None else scores
    return assigner_of(top_k)(scores, boxes[None], centers, strides, is_padding, targets)


def assigner_of(top_k):
    return TaskAlignedAssigner(top_k=top_k)


def test_the_best_cells_in_an_object_learn_it_and_the_best_one_is_to_reach_its_overlap():
    wanted = assign(targets_of([16, 16, 32, 32]), top_k=3)
    centers, _, _ = cells()
    chosen = wanted.weights[0] > 0
    assert chosen.sum() == 3 and ((centers[chosen] > 16) & (centers[chosen] < 32)).all()
    assert torch.equal(wanted.scores[0, :, 0], wanted.weights[0]) and not wanted.scores[0, :, 1:].any()
    assert wanted.weights.max() == pytest.approx(144 / (256 + 256 - 144))  # of boxes 4 pixels aside in both directions
    assert torch.equal(wanted.boxes[0, chosen], torch.tensor([16.0, 16, 32, 32]).expand(3, 4))


def test_an_object_without_any_cells_center_has_the_cell_that_it_lies_in():
    wanted = assign(targets_of([17, 33, 19, 35]))
    assert (wanted.weights[0] > 0).nonzero().flatten().tolist() == [4 * 8 + 2]


def test_a_cell_that_two_objects_want_learns_the_one_that_it_overlaps_more():
    wanted = assign(targets_of([8, 8, 24, 24], [8, 8, 56, 56], classes=[0, 1]), top_k=64)
    small = wanted.scores[0, :, 0] > 0
    assert not (small & (wanted.scores[0, :, 1] > 0)).any()
    assert small[9] and (wanted.scores[0, 4 * 8 + 4, 1] > 0)


def test_padding_learns_nothing_and_an_image_without_objects_neither():
    is_padding = torch.zeros(1, 64, dtype=torch.bool)
    is_padding[0, :32] = True
    assert not assign(targets_of([16, 16, 48, 48]), is_padding=is_padding).weights[0, :32].any()
    assert not assign(targets_of()).weights.any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(0.5, 64)] * 2), min_size=1, max_size=12))
def test_every_object_alone_in_its_place_is_learnt_and_no_quality_is_above_one(boxes):
    corners = [[x, y, min(x + w, 64), min(y + h, 64)] for x, y, w, h in boxes]
    wanted = assign(targets_of(*corners))
    assert wanted.weights.min() >= 0 and wanted.weights.max() <= 1
    assert assign(targets_of(corners[0])).weights.sum() > 0


def predictions(scores, boxes, is_padding=None):
    scores, boxes = torch.tensor(scores)[None], torch.tensor(boxes, dtype=torch.float32)[None]
    padding = torch.zeros(scores.shape, dtype=torch.bool) if is_padding is None else torch.tensor(is_padding)[None]
    return DensePredictions(scores[..., None].logit(), boxes, torch.zeros(0), torch.zeros(0), torch.zeros(0), padding)


def test_cells_that_repeat_a_better_one_come_after_all_others_and_padding_last():
    source = ImageProposals(4, num_classes=1, dim=8)
    box, moved, other = [0, 0, 10, 10], [1, 0, 10, 10], [30, 30, 40, 40]
    dense = predictions([0.9, 0.8, 0.2, 0.99], [box, moved, other, box], [False, False, False, True])
    assert source.distinct(dense).tolist() == [[0, 2, 1, 3]]


@pytest.mark.parametrize("masks", [False, True])
def test_the_model_trains_and_detects(masks):
    model = tiny_model("image_proposals", masks=masks)
    assert "init_proposal_features.weight" not in dict(model.named_parameters())
    losses = model([image(objects=3, masks=masks), image(objects=0, seed=1, masks=masks)])
    assert {"loss_ce_proposals", "loss_ce_dense", "loss_giou_dense", "loss_ce", "loss_ce_0"} <= losses.keys()
    total(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    (found,) = detect(model, [image()])
    assert len(found) > 0 and found.has("pred_masks") == masks


def test_it_looks_at_the_feature_maps_it_is_told():
    torch.manual_seed(0)
    features = [torch.randn(1, 8, side, side) for side in (16, 8, 4)]
    source = ImageProposals(4, num_classes=1, dim=8, feature_level=[1, 2])
    dense = source.dense(features, [(64, 64)], (64, 64))
    assert dense.strides.unique().tolist() == [8, 16] and dense.logits.shape == (1, 64 + 16, 1)
    everything = ImageProposals(4, num_classes=1, dim=8)
    everything.load_state_dict(source.state_dict())
    assert torch.equal(everything.dense(features, [(64, 64)], (64, 64)).logits[:, 256:], dense.logits)
    assert (
        len(ImageProposals(4, num_classes=1, dim=8, feature_level=0).dense(features, [(64, 64)], (64, 64)).strides)
        == 256
    )


def test_images_without_any_object_have_losses():
    losses = tiny_model("image_proposals")([image(objects=0), image(objects=0, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_the_cascade_leaves_the_dense_head_alone():
    model = tiny_model("image_proposals")
    losses = model([image(objects=3)])
    sum(loss for name, loss in losses.items() if not name.endswith(("_dense", "_proposals"))).backward()
    source = model.init_proposal_boxes
    assert all(p.grad is None or not p.grad.any() for p in [*source.tower.parameters(), *source.distances.parameters()])
    assert any(p.grad.any() for p in source.query.parameters())


def test_it_learns_a_image_by_heart():
    model = tiny_model("image_proposals")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    batch, losses = [image(objects=3)], []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(total(model(batch)))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
