"""Noised boxes of the ground truth beside the proposals: what they are, and that they learn apart from them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rcnn.denoising import Denoising
from sparse_rcnn.targets import Targets
from torchvision.ops import box_iou

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import detect, image, tiny_model, total

WIDTH, HEIGHT = 96, 64
ADDED = ["model.denoising={_target_: sparse_rcnn.denoising.Denoising, num_queries: 7}"]
SOURCES = ["", "box_transformer", "image_proposals"]


def targets_of(*images):
    """Of a list of xyxy boxes for each image; each box is of a class of its own."""
    boxes = torch.tensor([box for of_image in images for box in of_image], dtype=torch.float32).view(-1, 4)
    scales = torch.tensor([WIDTH, HEIGHT] * 2, dtype=torch.float32).expand(len(images), 4)
    return Targets(torch.arange(len(boxes)), boxes, [len(of_image) for of_image in images], scales)


def test_all_objects_are_there_equally_often_and_once_in_a_group():
    noised = Denoising(num_queries=6)(targets_of([[0, 0, 20, 20], [30, 30, 50, 50]], [], [[5, 5, 60, 40]]))
    assert noised.boxes.shape == (3, 6, 4)
    assert noised.groups.tolist() == [[0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert noised.targets.classes.tolist() == [0, 1] * 3 + [2] * 6
    assert noised.targets.counts == [6, 0, 6]


def test_an_image_without_objects_has_whole_images_that_are_to_find_nothing():
    noised = Denoising(num_queries=2)(targets_of([], []))
    assert noised.boxes.tolist() == [[[0, 0, WIDTH, HEIGHT]] * 2] * 2
    assert noised.matches(num_stages=3).proposals.shape == (3, 0)


def test_a_noised_box_has_its_object_in_every_stage():
    noised = Denoising(num_queries=3)(targets_of([[0, 0, 9, 9]], [], [[0, 0, 30, 30], [40, 40, 60, 60]]))
    matches = noised.matches(num_stages=2)
    assert matches.images.tolist() == [0] * 3 + [2] * 3
    assert matches.proposals.tolist() == [[0, 1, 2] * 2] * 2
    assert noised.targets.classes[matches.objects].tolist() == [[0, 0, 0, 1, 2, 1]] * 2


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0, 40)] * 2, *[st.floats(2, 20)] * 2), min_size=1, max_size=5),
    st.floats(0, 0.9),
    st.integers(0, 5),
)
def test_noise_moves_each_side_by_its_share_at_most(boxes, noise, seed):
    torch.manual_seed(seed)
    wanted = targets_of([[x, y, x + w, y + h] for x, y, w, h in boxes])
    noised = Denoising(num_queries=12, box_noise=noise)(wanted)
    half_sides = (noised.targets.boxes[:, 2:] - noised.targets.boxes[:, :2]).repeat(1, 2) / 2
    moved = (noised.boxes[0] - noised.targets.boxes).abs()
    assert (moved <= noise * half_sides + 1e-3).all()
    overlaps = box_iou(noised.boxes[0], noised.targets.boxes).diagonal()
    assert (overlaps >= (1 - noise) ** 2 - 1e-3).all() or noise > 0.5
    assert (noised.boxes >= 0).all() and (noised.boxes[..., 2] <= WIDTH).all()


def test_a_noised_box_starts_with_the_query_of_the_proposal_nearest_to_it():
    noised = Denoising(num_queries=2, box_noise=0.0)(targets_of([[0, 0, 10, 10], [50, 50, 60, 60]]))
    proposals = torch.tensor([[[40.0, 40, 48, 48], [1, 1, 12, 12], [80, 0, 90, 9]]])
    queries = torch.eye(3)[None]
    assert noised.nearest(proposals, queries)[0].argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("source", SOURCES)
def test_the_model_learns_from_both_with_any_source_of_proposals(source):
    model = tiny_model(source, overrides=ADDED)
    losses = model([image(objects=3), image(objects=0, seed=1)])
    for name in ("loss_ce", "loss_bbox", "loss_giou"):
        assert {f"{name}_denoising", f"{name}_denoising_0"} <= losses.keys()
    total(losses).backward()
    assert len(detect(model, [image()])) > 0


@pytest.mark.parametrize("source", SOURCES)
def test_the_proposals_see_nothing_of_the_noised_boxes(source):
    no_dropout = ["model.init_proposal_boxes.dropout=0"] if source == "box_transformer" else []
    alone, beside = tiny_model(source, overrides=no_dropout), tiny_model(source, overrides=[*no_dropout, *ADDED])
    batch = [image(objects=3), image(objects=1, seed=1)]
    expected, found = alone(batch), beside(batch)
    for name, loss in expected.items():
        assert torch.allclose(found[name], loss, rtol=1e-4, atol=1e-5), name


def test_images_without_any_object_have_losses():
    losses = tiny_model("image_proposals", overrides=ADDED)([image(objects=0), image(objects=0, seed=1)])
    assert all(loss.isfinite() for loss in losses.values())
