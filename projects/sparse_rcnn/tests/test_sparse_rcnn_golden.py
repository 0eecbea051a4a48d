"""Losses, gradients, detections and names of parameters are those of the original implementation.

The numbers in golden/ were computed by it on the CPU in float32 with torch 2.14, from the weights and the batch that
the functions below make. All random numbers are numpy's `RandomState`, whose streams don't change.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from sparse_rcnn.classification import SoftmaxClassification

from xray_lazy.config import get_config

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
NUM_CLASSES = 13
# height, width, objects, height and width of the file
IMAGES = [(192, 320, 5, 384, 640), (224, 288, 3, 224, 288)]
PUBLISHED_SHAPES = json.loads((GOLDEN / "r50_100pro_state_dict.json").read_text())
# With a class for "no object" the class layer has one output more, and the loss keeps the weights of the classes.
SOFTMAX_SHAPES = {
    name: [NUM_CLASSES + 1, *shape[1:]] if ".class_logits." in name else shape
    for name, shape in PUBLISHED_SHAPES.items()
} | {"criterion.empty_weight": [NUM_CLASSES + 1]}


@pytest.mark.parametrize(("case", "shapes"), [("focal", PUBLISHED_SHAPES), ("softmax", SOFTMAX_SHAPES)])
def test_the_numbers_are_those_of_the_original(case, shapes):
    expected = json.loads((GOLDEN / f"r50_100pro_{case}.json").read_text())
    model = published_model(case)
    assert {name: list(values.shape) for name, values in model.state_dict().items()} == shapes
    assert len(shapes) == {"focal": 523, "softmax": 524}[case]
    fill_by_name(model.state_dict())
    batch = random_batch(expected["batch_seed"])

    losses = model(batch)
    assert {name: float(loss.detach()) for name, loss in losses.items()} == pytest.approx(expected["losses"], rel=1e-4)
    sum(losses.values()).backward()
    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == expected["num_parameters_with_grad"]
    assert {name: gradients[name] for name in expected["grad_norms"]} == pytest.approx(expected["grad_norms"], rel=1e-3)

    model.eval()
    with torch.no_grad():
        results = model(batch)
    for result, wanted in zip(results, expected["outputs"], strict=True):
        assert_detections(result["instances"], wanted)


def published_model(case: str) -> torch.nn.Module:
    cfg = get_config("projects/sparse_rcnn/common/model.py", [f"model.num_classes={NUM_CLASSES}"])
    if case == "softmax":
        cfg.model.classification = L(SoftmaxClassification)(num_classes=NUM_CLASSES, no_object_weight=0.1)
    return instantiate(cfg.model)


def fill_by_name(state: dict[str, torch.Tensor]) -> None:
    """Give each tensor values in place that depend on its name and shape alone."""
    for name, tensor in state.items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        if name == "init_proposal_boxes.weight":  # centers and sizes relative to the image
            centers, sizes = (random.uniform(low, high, (len(tensor), 2)) for low, high in [(0.2, 0.8), (0.1, 0.5)])
            values = np.concatenate([centers, sizes], axis=1)
        elif name.endswith("running_var"):
            values = random.uniform(0.5, 1.5, tensor.shape)
        elif tensor.ndim > 1:
            values = random.standard_normal(tensor.shape) / np.sqrt(tensor[0].numel())
        else:
            values = name.endswith("weight") + 0.1 * random.standard_normal(tensor.shape)
        tensor.copy_(torch.from_numpy(values))


def random_batch(seed: int) -> list[dict]:
    random = np.random.RandomState(seed)
    batch = []
    for height, width, count, file_height, file_width in IMAGES:
        image = random.randint(0, 256, (3, height, width)).astype(np.uint8)
        corners = random.uniform(0, 0.6, (count, 2)) * (width, height)
        sizes = random.uniform(0, 0.35, (count, 2)) * (width, height) + 4
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
        instances = Instances((height, width), gt_boxes=Boxes(torch.from_numpy(boxes)))
        instances.gt_classes = torch.from_numpy(random.randint(0, NUM_CLASSES, count))
        batch.append(
            {"image": torch.from_numpy(image), "instances": instances, "height": file_height, "width": file_width}
        )
    return batch


def assert_detections(found: Instances, wanted: dict) -> None:
    assert list(found.image_size) == wanted["image_size"]
    assert len(found) == wanted["num_instances"]
    assert found.scores.sum().item() == pytest.approx(wanted["score_sum"], abs=1e-3)
    best = wanted["top20"]
    np.testing.assert_allclose(found.scores[:20], best["scores"], rtol=0, atol=1e-5)
    assert found.pred_classes[:20].tolist() == best["classes"]
    errors = (found.pred_boxes.tensor[:20] - torch.tensor(best["boxes_xyxy"])).abs().amax(1)
    # Through six stages of random weights, rounding grows: the order in which a processor's kernels or two threads add
    # moves a few boxes by up to 0.1 pixel, also when every operation is the original's. A wrong one would move most.
    assert errors.median() < 0.01 and errors.max() < 0.25
