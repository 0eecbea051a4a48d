"""Mixed precision does not move the boxes that features are pooled from."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, ImageList, Instances

from xray_lazy.config import get_config

SIZE = (1024, 2048)
LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


@pytest.fixture(scope="module")
def heads():
    node = get_config("common/models/mask_rcnn_r18_small.py").model.roi_heads
    node.box_head.input_shape.channels = node.mask_head.input_shape.channels = 4
    node.update(num_classes=2, seed=0)
    return instantiate(node).eval()


def features_and_boxes():
    torch.manual_seed(0)
    features = {name: torch.randn(1, 4, SIZE[0] // s, SIZE[1] // s).bfloat16() for name, s in LEVELS.items()}
    corners = torch.rand(20, 2) * torch.tensor([900.0, 900.0]) + torch.tensor([1030.0, 20.0])
    return features, torch.cat([corners, corners + 20 + torch.rand(20, 2) * 60], 1)


def pooled(heads, features, boxes):
    """What box and mask pooler give in a forward pass."""
    found = []
    hooks = [
        p.register_forward_hook(lambda *call: found.append(call[2])) for p in (heads.box_pooler, heads.mask_pooler)
    ]
    proposals = Instances(SIZE, proposal_boxes=Boxes(boxes), objectness_logits=torch.zeros(len(boxes)))
    given = Instances(SIZE, pred_boxes=Boxes(boxes), pred_classes=torch.zeros(len(boxes), dtype=torch.int64))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        heads(ImageList(torch.empty(0), [SIZE]), features, [proposals])
        heads.forward_with_given_boxes(features, [given])
    for hook in hooks:
        hook.remove()
    return found[0], found[-1]


def test_features_in_bfloat16_are_pooled_from_the_boxes_of_float32(heads):
    features, boxes = features_and_boxes()
    exact = [feature.float() for feature in features.values()]
    for pooler, found in zip((heads.box_pooler, heads.mask_pooler), pooled(heads, features, boxes), strict=True):
        assert torch.equal(found, pooler(exact, [Boxes(boxes)]))


def test_detectron2_moves_them(heads, monkeypatch):
    features, boxes = features_and_boxes()
    exact = heads.box_pooler([feature.float() for feature in features.values()], [Boxes(boxes)])
    for name in ("forward", "forward_with_given_boxes"):
        monkeypatch.setattr(type(heads), name, getattr(StandardROIHeads, name))
    moved, _ = pooled(heads, features, boxes)
    assert (moved - exact).abs().mean() > 0.1 * exact.abs().mean()
