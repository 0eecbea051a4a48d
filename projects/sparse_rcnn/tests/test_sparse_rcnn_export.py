"""The whole detector as an exported program: of one image size with torch.export, of any with the other formats."""

import onnxruntime
import pytest
import torch

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import image, tiny_model
from xray_lazy.export.formats import write_model
from xray_lazy.export.single_image import SingleImageDetector

pytestmark = pytest.mark.slow


def lively_model(**kwargs):
    """One whose boxes move and fall on all levels of the pooler, whose classes and proposals depend on the image."""
    model = tiny_model("box_transformer", **kwargs).eval().requires_grad_(False)
    # larger boxes and smaller ones are pooled from other levels: how many there are of each must stay open
    model.init_proposal_boxes.weight.data = torch.tensor(
        [[0.5, 0.5, 1, 1], [0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4], [0.7, 0.7, 0.9, 0.9], [0.5, 0.5, 5, 5]]
    )
    torch.nn.init.normal_(model.init_proposal_boxes.mlp[-2].weight, std=0.1)
    for stage in model.head.head_series:
        stage.bboxes_delta.weight.data *= 0.5
        stage.class_logits.weight.data *= 10
    return model


def assert_same(found, wanted):
    for values, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.as_tensor(values), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")  # detectron2 and torch about their own deprecated functions
def test_an_exported_detector_finds_the_same_in_other_images(tmp_path):
    detector = SingleImageDetector(lively_model(masks=True, overrides=["model.head.num_stages=1"]))
    write_model(detector, image(seed=1)["image"].float(), tmp_path / "detector.pt2", "torch_export", dynamic=False)
    program = torch.export.load(tmp_path / "detector.pt2").module()
    for seed in range(1, 4):
        pixels = image(seed=seed)["image"].float()
        assert_same(program(pixels), detector(pixels))


@pytest.mark.filterwarnings("ignore:`torch.jit.load`")
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize("kwargs", [{"masks": True}, {"softmax": True}], ids=["masks", "softmax"])
def test_an_exported_detector_finds_the_same_in_images_of_other_sizes(tmp_path, format, kwargs):
    detector = SingleImageDetector(lively_model(**kwargs))
    file = tmp_path / "detector"
    write_model(detector, image()["image"].float(), file, format, dynamic=True)
    run = onnx_session(file) if format == "onnx" else torch.jit.load(str(file))
    boxes = []
    for seed, (height, width) in enumerate([(64, 96), (96, 64), (33, 130), (200, 40)]):
        pixels = image(height, width, seed=seed)["image"].float()
        wanted = detector(pixels)
        assert_same(run(pixels), wanted)
        boxes.append(wanted[0] / torch.tensor([width, height] * 2))
    assert (boxes[0] - boxes[1]).abs().max() > 0.01, "boxes must depend on the image"


def onnx_session(file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"picture": image.numpy()})
