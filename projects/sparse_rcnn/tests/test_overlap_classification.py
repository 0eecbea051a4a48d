"""Class scores that learn how well their box fits."""

import pytest
import torch
from detectron2.config import instantiate
from sparse_rcnn.classification import OverlapClassification
from sparse_rcnn.matching import HungarianMatcher
from sparse_rcnn.set_loss import SetCriterion
from sparse_rcnn.targets import Targets
from torchvision.ops import box_iou

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import image, tiny_config, total

OVERLAP = "{_target_: sparse_rcnn.classification.OverlapClassification, num_classes: 4}"


def plain_loss(logits: torch.Tensor, wanted: torch.Tensor, overlaps: torch.Tensor, gamma: float) -> torch.Tensor:
    """Of proposals `(P, C)` one by one, by formula (2) of DEIM."""
    loss = torch.zeros(())
    for row, target, overlap in zip(logits, wanted, overlaps, strict=True):
        for class_, logit in enumerate(row):
            p = logit.sigmoid()
            if class_ == target:
                loss = loss - overlap**gamma * p.log() - (1 - overlap**gamma) * (1 - p).log()
            else:
                loss = loss - p.detach() ** gamma * (1 - p).log()
    return loss


def test_the_loss_is_that_of_the_paper():
    torch.manual_seed(0)
    logits, overlaps = torch.randn(2, 1, 5, 4), torch.rand(2, 1, 5)
    wanted = torch.tensor([[[0, 4, 2, 4, 3]], [[4, 4, 1, 4, 4]]])  # 4: no object
    found = OverlapClassification(4, gamma=1.5).loss(logits, wanted, torch.tensor(2.0), overlaps=overlaps)
    for stage in range(2):
        by_hand = plain_loss(logits[stage, 0], wanted[stage, 0], overlaps[stage, 0], 1.5) / 2
        torch.testing.assert_close(found[stage], by_hand)


@pytest.mark.parametrize("shift", [0.0, 10.0, 500.0])
def test_the_score_that_costs_least_is_the_overlap(shift):
    """Of the matched proposal; the overlap is that of the predicted box."""
    object_box = torch.tensor([[10.0, 10, 50, 50]])
    box = object_box + torch.tensor([shift, 0, shift, 0])
    classification = OverlapClassification(1, gamma=1.0)
    criterion = SetCriterion(classification, HungarianMatcher(classification), class_weight=1.0)
    targets = Targets(torch.tensor([0]), object_box, [1], torch.full((1, 4), 600.0))
    logit = torch.zeros(1, 1, 1, 1, requires_grad=True)
    optimizer = torch.optim.SGD([logit], lr=2.0)
    for _ in range(400):
        optimizer.zero_grad()
        criterion(logit, box[None, None], targets)[0]["loss_ce"].backward()
        optimizer.step()
    assert logit.sigmoid().item() == pytest.approx(box_iou(box, object_box).item(), abs=0.01)


def test_a_model_trains_with_it_also_without_any_object():
    cfg = tiny_config(overrides=[f"model.classification={OVERLAP}", "model.num_classes=4"])
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    for batch in ([image(), image(48, 64, seed=1)], [image(objects=0)]):
        loss = total(model(batch))
        loss.backward()
        assert loss.isfinite()
