"""Masks part by part beside detectron2's mask head, and those that a threshold spares."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import nn

from xray_lazy.modeling.global_losses import GlobalMeanMaskHead
from xray_lazy.prediction import mask_inference
from xray_lazy.prediction.mask_inference import PartwiseMaskHead, use_partwise_mask_heads
from xray_lazy.prediction.predictor import Predictor


def mask_head(num_classes, kind=GlobalMeanMaskHead):
    torch.manual_seed(0)
    head = kind(ShapeSpec(channels=6), num_classes=num_classes, conv_dims=[8, 5, 4])
    nn.init.normal_(head.predictor.weight)  # detectron2's first ones are nearly 0
    nn.init.normal_(head.predictor.bias)
    nn.init.normal_(head.deconv.bias)
    return head.eval()


@pytest.mark.parametrize("num_classes", [1, 4])
@pytest.mark.parametrize("counts", [(17, 0, 9), (0, 0)])
@torch.inference_mode()
def test_masks_are_those_of_the_head(num_classes, counts, monkeypatch):
    monkeypatch.setattr(mask_inference, "VALUES_AT_ONCE", 1)  # parts of 8 boxes
    features = torch.randn(sum(counts), 6, 3, 5).contiguous(memory_format=torch.channels_last)
    found, expected = (
        [Instances((90, 90), pred_classes=torch.arange(count) % 4) for count in counts] for _ in range(2)
    )
    head = mask_head(num_classes)
    head(features, expected)
    assert PartwiseMaskHead(head)(features, found) is found
    for one, other in zip(found, expected, strict=True):
        assert one.pred_masks.shape == (len(other), 1, 6, 10)
        torch.testing.assert_close(one.pred_masks, other.pred_masks, rtol=0, atol=1e-6)


class OwnMaskHead(MaskRCNNConvUpsampleHead):
    pass


@pytest.mark.parametrize(
    ("kind", "replaced"), [(MaskRCNNConvUpsampleHead, 1), (GlobalMeanMaskHead, 1), (OwnMaskHead, 0)]
)
def test_only_heads_that_are_known_are_replaced_and_once(kind, replaced):
    model = nn.ModuleDict({"mask_head": mask_head(2, kind)})
    assert use_partwise_mask_heads(model) == replaced
    assert use_partwise_mask_heads(model) == 0
    assert isinstance(model["mask_head"], PartwiseMaskHead) == bool(replaced)


def test_items_below_the_threshold_cost_no_mask_and_the_others_stay_as_they_are(run_folder, images):
    predictor = Predictor.of(run_folder, device="cpu")
    drawn = []
    model = predictor.detector.model
    model.roi_heads.mask_head.register_forward_hook(lambda module, inputs, output: drawn.append(len(inputs[0])))
    everything = predictor(images[0])
    predictor.score_threshold = everything.scores.median().item()
    few = predictor(images[0])
    expected = everything[everything.scores >= predictor.score_threshold]
    assert 0 < len(few) == len(expected) < len(everything)
    assert torch.equal(few.scores, expected.scores)
    assert torch.equal(few.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert list(few.pred_masks) == list(expected.pred_masks)
    assert drawn == [len(everything), len(few)]
    predictor.score_threshold = 0.0  # the model keeps its own
    assert len(predictor(images[0])) == len(everything)
