"""A detector in parts does what it does as a whole, and what it tells of itself is true."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling.postprocessing import detector_postprocess
from torch import nn

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import tiny_model
from xray_lazy.config import load_config
from xray_lazy.errors import UserError
from xray_lazy.inspection.activation import class_activations, proposals_of
from xray_lazy.inspection.attention import attention_maps, recorded_attention
from xray_lazy.inspection.panels import principal_components
from xray_lazy.inspection.parts import model_parts

TINY = str(Path(__file__).parents[1] / "engine" / "tiny.py")
SIZES = [(64, 96), (80, 50)]


def rcnn():
    torch.manual_seed(0)
    cfg = load_config(TINY, ["model.roi_heads.box_predictor.test_score_thresh=0.0"])
    return instantiate(cfg.model)


def sparse(boxes="", masks=True, softmax=False):
    torch.manual_seed(0)
    return tiny_model(boxes=boxes, masks=masks, softmax=softmax)


MODELS = {
    "mask_rcnn": rcnn,
    "sparse_rcnn": sparse,
    "softmax": lambda: sparse(softmax=True, masks=False),
    "box_transformer": lambda: sparse("box_transformer"),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]().eval().requires_grad_(False)


@pytest.fixture
def samples():
    random = torch.Generator().manual_seed(0)
    return [
        {"image": torch.randint(0, 255, (3, h, w), generator=random).float(), "height": h, "width": w} for h, w in SIZES
    ]


def in_parts(model, samples):
    parts = model_parts(model)
    images = parts.prepare(samples)
    features = parts.backbone(images)
    proposals = parts.proposals(images, features)
    return parts, images, features, proposals


def test_the_parts_give_the_models_own_detections(model, samples):
    parts, images, features, proposals = in_parts(model, samples)
    found = parts.heads(images, features, proposals)
    for own, whole, (height, width) in zip(found, model(samples), SIZES, strict=True):
        own, whole = detector_postprocess(own, height, width), whole["instances"]
        assert len(own) == len(whole) > 0
        torch.testing.assert_close(own.pred_boxes.tensor, whole.pred_boxes.tensor)
        torch.testing.assert_close(own.scores, whole.scores)
        assert own.pred_classes.equal(whole.pred_classes)
        if whole.has("pred_masks"):
            assert own.pred_masks.equal(whole.pred_masks)


def test_the_last_stage_holds_the_boxes_and_scores_of_the_detections(model, samples):
    parts, images, features, proposals = in_parts(model, samples)
    stages = parts.stages(images, features, proposals)
    found = parts.heads(images, features, proposals)
    for of_image, detections in zip(stages, found, strict=True):
        last = of_image[-1]
        best = detections[:3]
        places = proposals_of(last, best)
        torch.testing.assert_close(last.scores[places, best.pred_classes], best.scores)
        assert last.boxes.shape == (len(last.logits), 4) and last.logits.shape == last.scores.shape


def test_proposals_of_an_rcnn_come_best_first_those_of_sparse_rcnn_have_no_scores(model, samples):
    *_, proposals = in_parts(model, samples)
    for one in proposals:
        assert one.boxes.equal(one.layers[-1])
        if one.scores is not None:
            assert one.scores.diff().max() <= 0 and 0 <= one.scores.min() <= one.scores.max() <= 1


def test_a_box_transformer_tells_the_boxes_after_each_layer_and_where_it_looked(samples):
    model = sparse("box_transformer").eval()
    with torch.no_grad(), recorded_attention(model) as attention:
        *_, features, proposals = in_parts(model, samples)
    assert proposals[0].layers.shape == (2, 5, 4)
    assert list(attention) == [f"init_proposal_boxes.layers.{layer}.cross_attention" for layer in range(2)]
    level = features["p3"]  # the finest that it looks at
    for weights in attention.values():
        assert weights.shape[:3] == (2, 4, 5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
        maps = attention_maps(weights, features)
        assert maps.shape[3:] == level.shape[2:]
        torch.testing.assert_close(maps.sum((-1, -2)), torch.ones(2, 4, 5))
        # of 80 padded to 96 columns, the second image has 50
        assert maps[1, ..., -1].max() == 0 < maps[0, ..., -1].max()


def test_recording_leaves_the_result_and_the_model_as_they_were(samples):
    model = sparse("box_transformer").eval()
    with torch.no_grad():
        before = model(samples)[0]["instances"].scores
        with recorded_attention(model):
            torch.testing.assert_close(model(samples)[0]["instances"].scores, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_weights_over_several_levels_are_one_map():
    features = {"p2": torch.ones(1, 8, 8, 12), "p3": torch.ones(1, 8, 4, 6), "p4": torch.ones(1, 8, 2, 3)}
    weights = torch.zeros(1, 1, 1, 4 * 6 + 2 * 3)
    weights[..., 7] = 0.75  # p3: second row, second column
    weights[..., 24 + 5] = 0.25  # p4: second row, third column
    wanted = torch.zeros(4, 6)
    wanted[1, 1] = 0.75
    wanted[2:, 4:] = 0.25 / 4
    torch.testing.assert_close(attention_maps(weights, features)[0, 0, 0], wanted)


def test_weights_over_another_number_of_cells_are_no_map():
    assert attention_maps(torch.ones(1, 1, 1, 7), {"p2": torch.ones(1, 8, 2, 3)}) is None


def test_evidence_is_a_map_of_the_image_for_each_detected_class(model, samples):
    parts, images, features, proposals = in_parts(model, samples)
    found = [detections[:3] for detections in parts.heads(images, features, proposals)]
    maps = class_activations(parts, samples, found)
    for by_class, detections, size in zip(maps, found, SIZES, strict=True):
        assert set(by_class) == set(detections.pred_classes.tolist())
        for values in by_class.values():
            assert values.shape == size and values.min() >= 0 and values.max() <= 1.0001
    assert not model.backbone.bottom_up._forward_hooks


class Brightness(nn.Module):
    """A backbone of one channel: the image itself, in cells of 4 pixels."""

    def forward(self, images):
        return {"res2": nn.functional.avg_pool2d(images[:, :1], 4)}


class LooksAtBrightness(nn.Module):
    """Two proposals, left and right; the score of the only class is the brightness inside of them."""

    def __init__(self):
        super().__init__()
        self.backbone = Brightness()


def test_evidence_lies_where_the_score_comes_from():
    from detectron2.structures import Boxes, ImageList, Instances

    from xray_lazy.inspection.parts import ModelParts, Proposals, Stage

    class Parts(ModelParts):
        model = LooksAtBrightness()

        def prepare(self, samples):
            return ImageList.from_tensors([sample["image"] for sample in samples], 4)

        def backbone(self, images):
            return self.model.backbone(images.tensor)

        def proposals(self, images, features):
            boxes = torch.tensor([[0.0, 0, 32, 32], [32, 0, 64, 32]])
            return [Proposals(boxes, None, boxes[None])]

        def stages(self, images, features, proposals):
            halves = features["res2"][0, 0].split(8, dim=1)
            logits = torch.stack([half.sum() for half in halves])[:, None]
            return [[Stage(proposals[0].boxes, logits, logits.sigmoid())]]

        def heads(self, images, features, proposals):
            raise NotImplementedError

    image = torch.zeros(3, 32, 64)
    image[:, 8:16, 40:48] = 1.0
    image[:, 20:24, 4:8] = 1.0
    right = Instances((32, 64), pred_boxes=Boxes(torch.tensor([[32.0, 0, 64, 32]])))
    right.pred_classes, right.scores = torch.tensor([0]), torch.tensor([1.0])
    [by_class] = class_activations(Parts(), [{"image": image}], [right])
    values = by_class[0]
    assert values[9:15, 41:47].min() > 0.6 and values[:, :32].max() < 0.05


def test_a_model_of_another_kind_is_told_what_it_lacks():
    with pytest.raises(UserError, match="Linear can't be run in parts") as error:
        model_parts(nn.Linear(1, 1))
    assert "RunsInParts" in error.value.fix


def test_components_tell_two_grounds_apart():
    level = torch.zeros(5, 4, 6)
    level[2, :, 3:] = 1.0
    first = principal_components(level)[..., 0]
    assert first.shape == (4, 6) and (first[:, 0] - first[:, -1]).abs().min() > 0.9
    assert principal_components(torch.rand(2, 4, 6)).shape == (4, 6, 3)
