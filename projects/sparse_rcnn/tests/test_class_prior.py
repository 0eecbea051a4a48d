"""Before training, each class has the score of the prior, and nothing but the class bias makes it so."""

import math

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from sparse_rcnn.classification import FocalClassification, SoftmaxClassification
from sparse_rcnn.dynamic_stage import DynamicStage
from torch import nn

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import HIDDEN_DIM, image, tiny_model

PRIOR = -math.log(99)


# 4, 64 and 256 are also the widths of the boxes, of the dynamic convolution and of the proposals
@pytest.mark.parametrize("num_classes", [1, 4, 64, 256])
def test_only_the_class_bias_holds_the_prior(num_classes):
    stage = DynamicStage(FocalClassification(num_classes), Box2BoxTransform((2.0, 2.0, 1.0, 1.0)))
    assert torch.equal(stage.class_logits.bias, torch.full((num_classes,), PRIOR))
    for name, module in stage.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
    for name, parameter in stage.named_parameters():
        if name != "class_logits.bias":
            assert parameter.min() > PRIOR, name
    # a bias is what torch starts it with, within one over the square root of the number of inputs
    assert stage.bboxes_delta.bias.abs().max() <= 1 / 16


@pytest.mark.parametrize("num_classes", [1, 4, 8, HIDDEN_DIM, 64, 256])
def test_scores_start_at_about_the_prior(num_classes):
    model = tiny_model(overrides=[f"model.num_classes={num_classes}"])
    assert [stage.class_logits.bias.unique().item() for stage in model.head.head_series] == pytest.approx([PRIOR] * 2)
    model.eval()
    features = model.backbone(model.preprocess([image()]).tensor)
    boxes, proposals = torch.tensor([[[0.0, 0.0, 96.0, 64.0]] * 5]), model.init_proposal_features.weight[None]
    logits, _, _ = model.head([features[name] for name in model.in_features], boxes, proposals)
    assert 0.005 < logits.sigmoid().median() < 0.02


def test_another_prior_is_a_setting():
    model = tiny_model(overrides=["model.classification.prior_probability=0.2"])
    assert model.head.head_series[0].class_logits.bias.sigmoid().tolist() == pytest.approx([0.2] * 3)


def test_the_softmax_has_no_prior_and_one_output_more():
    stage = DynamicStage(SoftmaxClassification(4), Box2BoxTransform((2.0, 2.0, 1.0, 1.0)), hidden_dim=16, num_heads=4)
    assert torch.equal(stage.class_logits.bias, torch.zeros(5))
