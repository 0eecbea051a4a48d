"""Evaluation without bitmaps, held against the plain outputs of the models."""

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.modeling import GeneralizedRCNN, detector_postprocess
from detectron2.structures import Boxes, BoxMode, Instances, ROIMasks

from tests.evaluation.test_mask_encoding import smooth_masks
from tests.evaluation.test_test_time_augmentation import tiny_config
from xray_lazy.data.datasets import DetectionDataset
from xray_lazy.data.mapper import DetectionMapper
from xray_lazy.data.masks.mask_encoding import EncodedMasks
from xray_lazy.evaluation import test_time_augmentation as augmentation
from xray_lazy.evaluation.coco_evaluator import CocoEvaluator
from xray_lazy.evaluation.encoded_inference import encoding_masks, postprocess
from xray_lazy.evaluation.inference import run_inference

cv2 = pytest.importorskip("cv2")
HEIGHT, WIDTH = 90, 130


@pytest.fixture(scope="module", params=[True, False], ids=["masks", "boxes"])
def model(request):
    torch.manual_seed(0)
    return instantiate(tiny_config(request.param).model).eval()


@pytest.fixture(scope="module")
def mask_model():
    torch.manual_seed(0)
    return instantiate(tiny_config().model).eval()


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """Five images of two sizes with an item each, as a data set."""
    folder, random, records = tmp_path_factory.mktemp("bags"), np.random.default_rng(3), []
    for number in range(5):
        height, width = (HEIGHT, WIDTH) if number % 2 else (WIDTH, HEIGHT)
        image = np.full((height, width, 3), 235, np.uint8)
        x, y = (int(value) for value in random.integers(0, (width - 40, height - 30)))
        image[y : y + 25, x : x + 35] = random.integers(0, 200, 3)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        corners = [x, y, x + 35, y, x + 35, y + 25, x, y + 25]
        item = {"bbox": [x, y, 35, 25], "bbox_mode": BoxMode.XYWH_ABS, "category_id": number % 3, "iscrowd": 0}
        record = {"file_name": str(folder / f"{number}.png"), "image_id": 7 * number, "height": height, "width": width}
        records.append(record | {"annotations": [item | {"segmentation": [corners]}]})
    return DetectionDataset(records, "bags", ("gun", "knife", "bottle"), (2, 3, 11))


def batches(dataset, size=1):
    mapper = DetectionMapper([T.ResizeShortestEdge(60, 100)], is_train=False, with_masks=False)
    samples = [mapper(record) for record in dataset]
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def assert_equal(found, plain):
    assert found.image_size == plain.image_size
    assert torch.equal(found.pred_boxes.tensor, plain.pred_boxes.tensor)
    assert torch.equal(found.scores, plain.scores) and torch.equal(found.pred_classes, plain.pred_classes)
    assert found.has("pred_masks") == plain.has("pred_masks")
    if plain.has("pred_masks"):
        assert isinstance(found.pred_masks, EncodedMasks)
        np.testing.assert_array_equal(found.pred_masks.bitmaps(), plain.pred_masks.numpy())


@torch.no_grad()
def test_a_detector_finds_the_same_with_encoded_masks(model, bags):
    detect = encoding_masks(model)
    assert detect is not model
    for batch in batches(bags, size=2):
        for found, plain in zip(detect(batch), model(batch), strict=True):
            assert len(plain["instances"]) > 10
            assert_equal(found["instances"], plain["instances"])


@torch.no_grad()
def test_test_time_augmentation_finds_the_same_with_encoded_masks(model, bags):
    augmented = augmentation.TestTimeAugmentation(model, [60, 70], max_size=100).eval()
    (found,), (plain,) = encoding_masks(augmented)([bags[0]]), augmented([bags[0]])
    assert len(plain["instances"]) > 10
    assert_equal(found["instances"], plain["instances"])


def raw_instances():
    boxes = [[3.5, 4.25, 40, 33], [20, 20, 20, 40], [-5, -5, 90, 70], [50, 2, 59.9, 58]]
    return Instances(
        (60, 87), pred_boxes=Boxes(torch.tensor(boxes)), scores=torch.rand(4), pred_masks=smooth_masks(4)[:, None]
    )


@pytest.mark.parametrize("sample", [{"height": 90, "width": 130}, {}])
def test_postprocessing_drops_what_detectron2_drops(sample):
    plain = detector_postprocess(raw_instances(), sample.get("height", 60), sample.get("width", 87))
    found = postprocess(raw_instances(), sample)
    assert len(found) == len(plain) == 3  # the box without width is gone
    np.testing.assert_array_equal(found.pred_masks.bitmaps(), plain.pred_masks.numpy())
    assert torch.equal(found.pred_boxes.tensor, plain.pred_boxes.tensor)


def test_masks_in_detectron2s_own_structure_are_encoded():
    instances = raw_instances()
    instances.pred_masks = ROIMasks(instances.pred_masks[:, 0])
    expected = postprocess(raw_instances(), {}).pred_masks
    assert list(postprocess(instances, {}).pred_masks) == list(expected)


class Rewriting(GeneralizedRCNN):
    """A model of somebody else that does more than detectron2's."""

    def forward(self, batch):
        return [{"instances": output["instances"][:1]} for output in super().forward(batch)]


def test_a_model_that_is_not_known_is_called_as_it_is(mask_model, bags):
    other = Rewriting.__new__(Rewriting)
    other.__dict__ = mask_model.__dict__.copy()
    assert encoding_masks(other) is other
    evaluator = CocoEvaluator(bags)
    run_inference(other, batches(bags), evaluator)
    assert len(evaluator.predictions) == len(bags)


def test_a_model_whose_outputs_somebody_looks_at_is_called_as_it_is(mask_model, bags):
    seen = []
    hook = mask_model.register_forward_hook(lambda module, inputs, outputs: seen.extend(outputs))
    run_inference(mask_model, batches(bags), CocoEvaluator(bags))
    hook.remove()
    assert len(seen) == len(bags) and seen[0]["instances"].pred_masks.dtype == torch.bool


class PlainEvaluator(CocoEvaluator):
    """An evaluator that takes bitmaps alone."""

    takes_encoded_masks = False

    def process(self, inputs, outputs):
        assert all(output["instances"].pred_masks.dtype == torch.bool for output in outputs)
        super().process(inputs, outputs)


def test_metrics_and_detections_equal_those_of_bitmaps(mask_model, bags):
    plain, encoded = PlainEvaluator(bags), CocoEvaluator(bags)
    expected = run_inference(mask_model, batches(bags), plain)
    np.testing.assert_equal(run_inference(mask_model, batches(bags), encoded), expected)
    assert list(encoded.predictions) == list(plain.predictions) and len(plain.predictions) > 50


def test_one_evaluator_that_takes_bitmaps_alone_gets_them(mask_model, bags):
    run_inference(mask_model, batches(bags[:1]), [_Named(bags), PlainEvaluator(bags)])


class _Named(CocoEvaluator):
    def evaluate(self):
        return {"first": {}}
