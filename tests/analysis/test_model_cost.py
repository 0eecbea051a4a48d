"""Costs of models that can be counted by hand, and of a detector."""

import json

import pytest
import torch
from detectron2.structures import Instances
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xray_lazy.analysis.model_cost import REST, input_size, measure, measure_source, write_model_cost
from xray_lazy.config import get_config
from xray_lazy.errors import UserError


class Countable(nn.Module):
    """A convolution of 3 to 4 channels by 3x3, and a linear layer of 4 to 5 that is called past its parent."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.head = nn.Sequential(nn.Linear(4, 5))
        self.head.requires_grad_(False)

    def forward(self, batch):
        features = self.backbone(batch[0]["image"][None].float())
        self.head[0](features.mean(dim=(2, 3)))
        return [{"instances": Instances((1, 1), scores=torch.zeros(0))}]


def test_a_small_model_costs_what_is_counted_by_hand():
    cost = measure(Countable(), width=10, height=8, repeats=1)
    parts = {part.name: part for part in cost.parts}
    backbone, head = parts["backbone"], parts["head"]
    assert (backbone.parameters, backbone.trainable) == (108, 108)
    assert (backbone.flops, backbone.activations) == (2 * 27 * 4 * 80, 4 * 80)
    assert (head.parameters, head.trainable, head.flops, head.activations) == (25, 0, 2 * 4 * 5, 5)
    assert parts[REST].flops == 0
    assert cost.total.flops == backbone.flops + head.flops
    assert cost.total.parameters == 133
    assert cost.total.seconds > 0 and cost.proposals is None


def test_the_parts_of_a_mask_rcnn_add_up_and_its_heads_are_busy():
    cfg = get_config("xray/mask_rcnn_r18_demo.py")
    cfg.model.proposal_generator.post_nms_topk = (20, 20)
    cfg.model.roi_heads.box_predictor.test_topk_per_image = 7
    from detectron2.config import instantiate

    model = instantiate(cfg.model)
    thresholds = model.roi_heads.box_predictor.test_score_thresh, model.proposal_generator.nms_thresh
    cost = measure(model, 96, 64, repeats=1, depth=1)
    assert (cost.proposals, cost.detections) == (20, 7)
    assert [part.name for part in cost.parts] == ["backbone", "proposal_generator", "roi_heads", REST]
    for figure in ("parameters", "flops", "activations"):
        assert sum(getattr(part, figure) for part in cost.parts) == getattr(cost.total, figure)
    assert cost.total.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (model.roi_heads.box_predictor.test_score_thresh, model.proposal_generator.nms_thresh) == thresholds

    image = {"image": torch.full((3, 64, 96), 128, dtype=torch.uint8), "height": 64, "width": 96}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.backbone(model.preprocess_image([image]).tensor)
    assert cost.parts[0].flops == counter.get_total_flops()


def test_a_config_is_measured_at_the_size_that_it_tests_at(tmp_path):
    cost = measure_source("configs/xray/mask_rcnn_r18_demo.py", ["model.roi_heads.num_classes=3"], repeats=1)
    assert (cost.model, cost.width, cost.height) == ("GeneralizedRCNN", 320, 192)
    write_model_cost(cost, tmp_path / "model.json")
    written = json.loads((tmp_path / "model.json").read_text())
    assert written["total"]["flops"] == cost.total.flops


@pytest.mark.parametrize(("short_edge", "size"), [("192", (320, 192)), ("[96,128]", (320, 128)), ("[480]", (480, 480))])
def test_of_several_short_edges_the_longest_counts(short_edge, size):
    override = f"++dataloader.test.mapper.augmentations.0.short_edge_length={short_edge}"
    assert input_size(get_config("xray/mask_rcnn_r18_demo.py", [override])) == size


def test_the_size_is_that_of_the_test_mapper():
    assert input_size(get_config("xray/mask_rcnn_r18_demo.py")) == (320, 192)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.yaml"):
        measure_source(tmp_path)
