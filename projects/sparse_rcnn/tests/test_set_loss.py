"""The set loss: what it is made of, and that unusual batches train."""

import pytest
import torch
import torch.nn.functional as F
from sparse_rcnn.classification import FocalClassification, SoftmaxClassification
from sparse_rcnn.matching import HungarianMatcher
from sparse_rcnn.set_loss import SetCriterion, giou_loss
from sparse_rcnn.targets import Targets
from torchvision.ops import generalized_box_iou_loss

from projects.sparse_rcnn.tests.executed_operators import ExecutedOperators
from projects.sparse_rcnn.tests.tiny_sparse_rcnn import NUM_CLASSES, image, tiny_model, total
from xray_lazy.errors import UserError


def criterion(classification) -> SetCriterion:
    return SetCriterion(classification, HungarianMatcher(classification))


def random_boxes(*shape: int) -> torch.Tensor:
    corners = torch.rand(*shape, 2) * 60
    return torch.cat([corners, corners + torch.rand(*shape, 2) * 40 + 1], -1)


def random_problem(stages: int, proposals: int, counts: list[int], num_logits: int):
    """Logits and boxes with gradients, and targets."""
    torch.manual_seed(0)
    logits = torch.randn(stages, len(counts), proposals, num_logits).requires_grad_()
    boxes = random_boxes(stages, len(counts), proposals).requires_grad_()
    classes = torch.randint(0, NUM_CLASSES, (sum(counts),))
    return (
        logits,
        boxes,
        Targets(classes, random_boxes(sum(counts)), counts, torch.tensor([[100.0, 80, 100, 80]] * len(counts))),
    )


def plain_giou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two boxes, by the formula of Rezatofighi et al., CVPR 2019."""
    width, height = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    hull = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod()
    return overlap / union - (hull - union) / hull


def plain_class_loss(kind: str, logits: torch.Tensor, wanted: torch.Tensor, num_objects: int) -> torch.Tensor:
    """Of one stage: logits `(P, L)` and classes `(P,)`."""
    if kind == "softmax":
        weights = torch.tensor([1.0] * NUM_CLASSES + [0.1])
        return F.cross_entropy(logits, wanted, weights)
    loss = torch.zeros(())
    for row, target in zip(logits, wanted, strict=True):
        for class_, logit in enumerate(row):
            p = logit.sigmoid()
            loss = loss - (0.25 * (1 - p) ** 2 * p.log() if class_ == target else 0.75 * p**2 * (1 - p).log())
    return loss / num_objects


@pytest.mark.parametrize("kind", ["focal", "softmax"])
def test_losses_are_those_of_a_plain_computation_stage_by_stage(kind):
    classification = {"focal": FocalClassification, "softmax": SoftmaxClassification}[kind](NUM_CLASSES)
    logits, boxes, targets = random_problem(3, 6, [2, 0, 9], classification.num_logits)
    losses, matches = criterion(classification)(logits, boxes, targets)
    for stage, suffix in enumerate(["_0", "_1", ""]):
        wanted = torch.full((3, 6), NUM_CLASSES)
        l1 = giou = 0.0
        pairs = zip(matches.images, matches.proposals[stage], matches.objects[stage], strict=True)
        for of_image, proposal, of_object in pairs:
            wanted[of_image, proposal] = targets.classes[of_object]
            found, true = boxes[stage, of_image, proposal], targets.boxes[of_object]
            l1 = l1 + ((found - true).abs() / torch.tensor([100, 80, 100, 80])).sum()
            giou = giou + 1 - plain_giou(found, true)
        class_loss = plain_class_loss(kind, logits[stage].flatten(0, 1), wanted.flatten(), 11)
        assert losses[f"loss_ce{suffix}"].item() == pytest.approx(2 * class_loss.item(), rel=1e-5)
        assert losses[f"loss_bbox{suffix}"].item() == pytest.approx(5 * l1.item() / 11, rel=1e-5)
        assert losses[f"loss_giou{suffix}"].item() == pytest.approx(2 * giou.item() / 11, rel=1e-5)


def test_each_stage_has_its_losses_and_the_last_has_the_plain_names():
    losses = tiny_model(overrides=["model.head.num_stages=4"])([image()])
    names = {"loss_ce", "loss_bbox", "loss_giou"}
    assert set(losses) == names | {f"{name}_{stage}" for name in names for stage in range(3)}


@pytest.mark.parametrize("softmax", [False, True])
def test_a_batch_without_any_object_trains_the_classes_alone(softmax):
    model = tiny_model(softmax=softmax)
    losses = model([image(objects=0), image(objects=0, seed=1)])
    assert all(loss > 0 for name, loss in losses.items() if "ce" in name)
    assert all(loss == 0 for name, loss in losses.items() if "ce" not in name)
    total(losses).backward()
    # gradients of all, so that data-parallel processes agree about what there is to average
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert (model.head.head_series[0].class_logits.bias.grad != 0).all()
    assert (model.head.head_series[0].bboxes_delta.bias.grad == 0).all()


def test_more_objects_than_proposals_train():
    model = tiny_model()
    batch = [image(objects=12), image(objects=0), image(objects=1)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    values = []
    for _ in range(10):
        loss = total(model(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_giou_and_l1_are_of_matched_pairs_only():
    logits, boxes, targets = random_problem(2, 60, [60], NUM_CLASSES)
    of_set = criterion(FocalClassification(NUM_CLASSES))
    matches = of_set.matcher(logits, boxes, targets)
    with ExecutedOperators() as operators:
        of_set.box_losses(boxes, targets, matches)
    assert operators.largest == 2 * 60 * 4  # the pairs' corners; all pairs would be 2 * 60 * 60


def test_the_sum_is_divided_by_the_number_of_objects():
    """Twice the same image has the losses of one."""
    model = tiny_model(overrides=["model.head.num_stages=1"])
    one, two = model([image(objects=3)]), model([image(objects=3)] * 2)
    for name in one:
        assert two[name].item() == pytest.approx(one[name].item(), rel=1e-4)


@pytest.mark.parametrize(("boxes", "layers"), [("", 1), ("box_transformer", 2)])
def test_proposal_boxes_can_be_supervised_too(boxes, layers):
    batch = [image(objects=4), image(objects=0)]
    plain = tiny_model(boxes)
    model = tiny_model(boxes, overrides=["model.supervise_proposal_boxes=True"])
    for one in (plain, model):
        one.init_proposal_boxes.eval()  # without dropout
    losses, without = model(batch), plain(batch)
    added = {f"{name}_proposals{suffix}" for name in ("loss_bbox", "loss_giou") for suffix in ["", "_0"][:layers]}
    assert set(losses) - set(without) == added
    assert all(torch.equal(losses[name], value) for name, value in without.items())
    # each proposal is the whole image before training, so any match is as good
    for name in added:
        assert losses[name] > 0
    total({name: losses[name] for name in added}).backward()
    assert (model.init_proposal_boxes.weight.grad != 0).any()
    assert all(p.grad is None for p in model.head.parameters())


def test_a_model_whose_parts_disagree_about_the_classes_is_refused():
    with pytest.raises(UserError, match="the model has 3 classes, its classification 4"):
        tiny_model(overrides=["model.classification.num_classes=4"])


def test_giou_has_values_and_gradients_of_torchvision():
    torch.manual_seed(0)
    found = torch.cat(
        [random_boxes(50), torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5]])]
    )
    # apart, touching at an edge, the same box, and one without area
    wanted = torch.cat(
        [random_boxes(50), torch.tensor([[20.0, 0, 30, 9], [10, 0, 20, 10], [0, 0, 10, 10], [0, 0, 9, 9]])]
    )
    results = []
    for loss in (giou_loss, generalized_box_iou_loss):
        boxes = found.clone().requires_grad_()
        values = loss(boxes, wanted)
        values.sum().backward()
        results.append((values.detach(), boxes.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-7)
