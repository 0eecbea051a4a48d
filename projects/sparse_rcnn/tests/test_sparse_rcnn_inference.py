"""Detections: the best pairs of proposal and class, in the pixels of the file."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_rcnn.classification import FocalClassification, SoftmaxClassification

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import detect, image, tiny_model

SIZES = {
    "classes": st.integers(1, 6),
    "proposals": st.integers(1, 8),
    "count": st.integers(1, 60),
    "seed": st.integers(0, 1000),
}


@settings(deadline=None)
@given(**SIZES)
def test_focal_gives_the_best_pairs_of_proposal_and_class(classes, proposals, count, seed):
    logits = torch.randn(2, proposals, classes, generator=torch.Generator().manual_seed(seed))
    scores, found, places = FocalClassification(classes).best(logits, count)
    for image_number in range(2):
        pairs = [
            (1 / (1 + (-logits[image_number, proposal, class_]).exp().item()), class_, proposal)
            for proposal in range(proposals)
            for class_ in range(classes)
        ]
        wanted = sorted(pairs, reverse=True)[:count]
        assert scores[image_number].tolist() == pytest.approx([score for score, *_ in wanted], abs=1e-6)
        assert found[image_number].tolist() == [class_ for _, class_, _ in wanted]
        assert places[image_number].tolist() == [proposal for *_, proposal in wanted]


@settings(deadline=None)
@given(**SIZES)
def test_softmax_gives_each_proposal_once_with_its_best_class(classes, proposals, count, seed):
    logits = torch.randn(2, proposals, classes + 1, generator=torch.Generator().manual_seed(seed))
    scores, found, places = SoftmaxClassification(classes).best(logits, count)
    for image_number in range(2):
        probabilities = logits[image_number].exp() / logits[image_number].exp().sum(1, keepdim=True)
        # "no object" is the last one
        best = [max((p, class_) for class_, p in enumerate(row[:-1])) for row in probabilities.tolist()]
        wanted = sorted(((p, class_, proposal) for proposal, (p, class_) in enumerate(best)), reverse=True)[:count]
        assert scores[image_number].tolist() == pytest.approx([score for score, *_ in wanted], abs=1e-6)
        assert found[image_number].tolist() == [class_ for _, class_, _ in wanted]
        assert places[image_number].tolist() == [proposal for *_, proposal in wanted]


@pytest.mark.parametrize("softmax", [False, True])
def test_detections_come_best_first_and_as_many_as_asked(softmax):
    model = tiny_model(softmax=softmax, overrides=["++model.detections_per_image=4"])
    [found] = detect(model, [image()])
    assert len(found) <= 4 and found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert found.has("pred_boxes") and found.pred_classes.max() < 3 and not found.has("pred_masks")


def test_boxes_are_in_the_pixels_of_the_file_and_within_it():
    model = tiny_model()
    batch = [image(64, 96), image(64, 96, file_size=(128, 384))]
    small, large = detect(model, batch)
    assert small.image_size == (64, 96) and large.image_size == (128, 384)
    torch.testing.assert_close(large.pred_boxes.tensor, small.pred_boxes.tensor * torch.tensor([4, 2, 4, 2]))
    assert (large.pred_boxes.tensor >= 0).all() and (
        large.pred_boxes.tensor <= torch.tensor([384, 128, 384, 128])
    ).all()


def test_without_a_size_of_the_file_boxes_are_in_the_pixels_of_the_input():
    model = tiny_model()
    sample = image(64, 96)
    [known] = detect(model, [sample])
    [unknown] = detect(model, [{"image": sample["image"]}])
    assert torch.equal(known.pred_boxes.tensor, unknown.pred_boxes.tensor)


@pytest.mark.parametrize("boxes", ["", "whole_picture", "box_transformer"])
def test_a_image_has_the_same_detections_each_time_and_beside_others(boxes):
    model = tiny_model(boxes, masks=True)
    batch = [image(64, 96, seed=1), image(64, 96, seed=2), image(64, 96, seed=3)]
    together, again = detect(model, batch), detect(model, batch)
    for one, other in zip(together, again, strict=True):
        assert torch.equal(one.scores, other.scores) and torch.equal(one.pred_boxes.tensor, other.pred_boxes.tensor)
        assert torch.equal(one.pred_masks, other.pred_masks)
    for sample, beside in zip(batch, together, strict=True):
        [alone] = detect(model, [sample])
        torch.testing.assert_close(alone.scores, beside.scores, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(alone.pred_boxes.tensor, beside.pred_boxes.tensor, rtol=1e-4, atol=1e-2)


def test_there_is_no_suppression_of_overlapping_boxes():
    model = tiny_model(overrides=["model.head.num_stages=1"])
    torch.nn.init.zeros_(model.head.head_series[0].bboxes_delta.weight)
    torch.nn.init.zeros_(model.head.head_series[0].bboxes_delta.bias)
    [found] = detect(model, [image()])
    assert torch.equal(found.pred_boxes.tensor, torch.tensor([[0.0, 0, 96, 64]]).expand(5, 4))


def test_statistics_of_pixels_move_with_the_model_and_are_not_in_checkpoints():
    model = tiny_model()
    assert {"pixel_mean", "pixel_std"} <= set(dict(model.named_buffers()))
    assert not {"pixel_mean", "pixel_std"} & set(model.state_dict())
    assert model.to("meta").pixel_mean.device.type == "meta" and model.device.type == "meta"


def test_pixels_are_normalised_and_padded_to_the_right_and_below():
    model = tiny_model(overrides=["model.pixel_mean=[10,20,30]", "model.pixel_std=[2,4,5]"])
    sample = {"image": torch.full((3, 40, 50), 50, dtype=torch.uint8)}
    images = model.preprocess([sample])
    assert images.tensor.shape == (1, 3, 64, 64)
    assert images.tensor[0, :, :40, :50].flatten(1).unique(dim=1).flatten().tolist() == [20, 7.5, 4]
    assert (images.tensor[0, :, 40:] == 0).all() and (images.tensor[0, :, :, 50:] == 0).all()
