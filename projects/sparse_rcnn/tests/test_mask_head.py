"""The mask branch: trains with the matches of the boxes, and draws masks in the file's pixels."""

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from sparse_rcnn.mask_head import dice_loss, masks_in_boxes
from sparse_rcnn.matching import Matches
from sparse_rcnn.targets import Targets
from torch import nn

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import detect, ellipses, image, tiny_model, total
from xray_lazy.errors import UserError

AGNOSTIC = ["model.mask_head.stage.class_agnostic=True"]


@pytest.mark.parametrize("overrides", [[], AGNOSTIC])
def test_each_stage_has_a_mask_loss_and_all_of_the_branch_learns(overrides):
    model = tiny_model(masks=True, overrides=overrides)
    losses = model([image(objects=3, masks=True), image(objects=0, masks=True)])
    assert {name for name in losses if "mask" in name} == {"loss_mask", "loss_mask_0"}
    total(losses).backward()
    for name, parameter in model.mask_head.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name
    outputs = {stage.mask_logits.out_channels for stage in model.mask_head.mask_series}
    assert outputs == ({1} if overrides else {3})


def test_other_losses_are_those_without_the_branch():
    batch = [image(objects=3, masks=True)]
    model, boxes_only = tiny_model(masks=True), tiny_model()
    boxes_only.load_state_dict({n: v for n, v in model.state_dict().items() if not n.startswith("mask_head.")})
    losses = model(batch)
    for name, value in boxes_only(batch).items():
        torch.testing.assert_close(losses[name], value)


def test_training_on_one_image_lowers_the_mask_loss():
    model = tiny_model(masks=True)
    batch = [image(objects=2, masks=True)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    values = []
    for _ in range(30):
        losses = model(batch)
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        values.append(losses["loss_mask"].item())
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


@pytest.mark.parametrize("overrides", [[], AGNOSTIC])
def test_masks_are_drawn_in_the_size_of_the_file(overrides):
    model = tiny_model(masks=True, overrides=overrides)
    large, small = detect(model, [image(64, 96, file_size=(128, 192)), image(48, 64, file_size=(30, 40))])
    assert large.pred_masks.shape == (len(large), 128, 192) and small.pred_masks.shape == (len(small), 30, 40)
    assert large.pred_masks.dtype == torch.bool
    assert len(large) and len(small)


def test_a_batch_without_any_object_trains():
    model = tiny_model(masks=True)
    losses = model([image(objects=0, masks=True)] * 2)
    assert losses["loss_mask"] == losses["loss_mask_0"] == 0
    total(losses).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_batch_without_masks_is_refused_with_the_setting_to_change():
    with pytest.raises(UserError, match=r"no masks\nfix: set dataloader\.train\.mapper\.with_masks=True"):
        tiny_model(masks=True)([image(masks=True), image(masks=False)])


def test_masks_are_drawn_in_the_boxes_that_are_given_out():
    """In a box that reaches out of the image a mask would be squeezed into what is left of the box at the edge."""
    model = tiny_model(masks=True)
    model.init_proposal_boxes.weight.data = torch.tensor([0.5, 0.5, 2.0, 2.0]).repeat(5, 1)
    for stage in model.head.head_series:  # boxes stay where they start
        nn.init.zeros_(stage.bboxes_delta.weight)
        nn.init.zeros_(stage.bboxes_delta.bias)
    drawn_in = []
    model.mask_head.mask_pooler.register_forward_pre_hook(lambda _, inputs: drawn_in.extend(inputs[1]))
    model([image(masks=True)])
    in_training = drawn_in.pop()
    given_out = detect(model, [image()])[0].pred_boxes.tensor
    whole = torch.tensor([[0.0, 0, 96, 64]])
    torch.testing.assert_close(given_out, whole.expand(5, 4))
    torch.testing.assert_close(drawn_in[-1].tensor, given_out)
    torch.testing.assert_close(in_training.tensor, whole.expand(2, 4))


def test_targets_are_what_the_box_shows_of_the_mask():
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0], [20.0, 0.0, 60.0, 30.0]])
    masks = ellipses(boxes, 64, 96)
    targets = Targets(
        torch.zeros(2, dtype=torch.int64), boxes, [1, 1], torch.zeros(2, 4), [BitMasks(masks[:1]), BitMasks(masks[1:])]
    )
    places = torch.tensor([[10.0, 10.0, 50.0, 50.0], [40.0, 0.0, 60.0, 30.0]])
    wanted = masks_in_boxes(targets, [1, 1], torch.tensor([0, 1]), places, 20)
    assert wanted.shape == (2, 20, 20)
    # the whole ellipse, and the right half of one
    whole, half = (m[None].float() for m in ellipses(torch.tensor([[0.0, 0, 20, 20], [-20.0, 0, 20, 20]]), 20, 20))
    assert (wanted[:1] - whole).abs().mean() < 0.03
    assert (wanted[1:] - half).abs().mean() < 0.03


def test_polygons_give_about_the_same_targets_as_bit_masks():
    angles = torch.linspace(0, 2 * torch.pi, 41)[:-1]
    polygon = torch.stack([30 + 20 * angles.cos(), 30 + 20 * angles.sin()], 1).flatten().tolist()
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    wanted = [
        masks_in_boxes(
            Targets(torch.zeros(1, dtype=torch.int64), boxes, [1], torch.zeros(1, 4), [masks]),
            [1],
            torch.tensor([0]),
            torch.tensor([[5.0, 12.0, 40.0, 47.0]]),
            28,
        )
        for masks in (PolygonMasks([[polygon]]), BitMasks(ellipses(boxes, 64, 96)))
    ]
    assert (wanted[0] != wanted[1]).float().mean() < 0.03
    assert 0.5 < wanted[0].mean() < 0.95


@pytest.mark.parametrize("kind", ["polygons", "bit masks"])
def test_a_model_trains_with_polygons_and_with_bit_masks(kind):
    batch = [image(objects=2, masks=True), image(objects=0, masks=True)]
    if kind == "polygons":
        for sample in batch:
            boxes = sample["instances"].gt_boxes.tensor
            corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]
            sample["instances"].gt_masks = PolygonMasks([[polygon.numpy()] for polygon in corners])
    loss = tiny_model(masks=True)(batch)["loss_mask"]
    assert 0 < loss < 8


def test_dice_loss_is_none_for_the_right_mask_and_one_for_the_wrong():
    mask = ellipses(torch.tensor([[2.0, 3.0, 20.0, 25.0]]), 28, 28).float()
    logits = torch.cat([mask, 1 - mask, torch.full_like(mask, 0.5)]) * 40 - 20
    right, wrong, unsure = dice_loss(logits, mask.expand(3, -1, -1))
    assert right < 1e-4 and wrong > 0.999
    overlap, size = 0.5 * mask.sum(), mask.numel() * 0.25 + mask.sum()
    assert unsure.item() == pytest.approx(1 - 2 * overlap.item() / size.item(), rel=1e-4)


def test_each_class_draws_its_own_mask():
    model = tiny_model(masks=True)
    stage = model.mask_head.mask_series[0]
    logits = torch.arange(2 * 3 * 4.0).view(2, 3, 2, 2)
    assert torch.equal(stage.of_class(logits, torch.tensor([2, 0])), torch.stack([logits[0, 2], logits[1, 0]]))


def test_masks_are_compared_with_those_of_the_matched_objects():
    """The loss is small only if each proposal's target is the mask of its own object, also across images."""
    boxes = torch.tensor([[10.0, 10, 50, 50], [5.0, 5, 30, 60], [0.0, 0, 90, 30]])
    masks = ellipses(boxes, 64, 96)
    instances = [
        Instances((64, 96), gt_boxes=Boxes(boxes[own]), gt_classes=torch.arange(3)[own], gt_masks=BitMasks(masks[own]))
        for own in (slice(0, 2), slice(2, 2), slice(2, 3))
    ]
    targets = Targets.collect(instances, torch.zeros(3, 4))
    matches = Matches(
        [2, 0, 1], torch.tensor([0, 0, 2]), torch.zeros(1, 3, dtype=torch.int64), torch.tensor([[1, 0, 2]])
    )
    wanted = masks_in_boxes(targets, matches.counts, matches.objects[0], boxes[matches.objects[0]], 16)
    whole = ellipses(torch.tensor([[0.0, 0, 16, 16]]), 16, 16).float()
    assert (wanted - whole).abs().flatten(1).mean(1).max() < 0.05
