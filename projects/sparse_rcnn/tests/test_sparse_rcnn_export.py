"""The whole detector as an exported program: of one image size with torch.export, of any, and of several images at
once, with other formats."""

import onnxruntime
import openvino
import pytest
import torch

from projects.sparse_rcnn.tests.tiny_sparse_rcnn import image, tiny_model
from xray_lazy.export.agreement import compare
from xray_lazy.export.formats import write_model
from xray_lazy.export.runtime import stacked
from xray_lazy.export.single_image import SingleImageDetector, exportable

pytestmark = pytest.mark.slow


def lively_model(**kwargs):
    """One whose boxes move and fall on all levels of the pooler, whose classes and proposals depend on the image."""
    model = tiny_model(**{"boxes": "box_transformer"} | kwargs).eval().requires_grad_(False)
    # larger boxes and smaller ones are pooled from other levels: how many there are of each must stay open
    source = model.init_proposal_boxes
    if hasattr(source, "weight"):
        source.weight.data = torch.tensor(
            [[0.5, 0.5, 1, 1], [0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.4, 0.4], [0.7, 0.7, 0.9, 0.9], [0.5, 0.5, 5, 5]]
        )
    for part in (getattr(source, "mlp", None), getattr(source, "handed_on", None)):
        if part is not None:
            [*_, last] = [module for module in part.modules() if isinstance(module, torch.nn.Linear)]
            torch.nn.init.normal_(last.weight, std=0.1)
    for stage in model.head.head_series:
        stage.bboxes_delta.weight.data *= 0.5
        stage.class_logits.weight.data *= 10
    return model


def assert_same(found, wanted):
    for values, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.as_tensor(values), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")  # detectron2 and torch about their own deprecated functions
@pytest.mark.parametrize("boxes", ["box_transformer", "image_proposals"])
def test_an_exported_detector_finds_the_same_in_other_images(tmp_path, boxes):
    detector = SingleImageDetector(lively_model(boxes=boxes, masks=True, overrides=["model.head.num_stages=1"]))
    write_model(detector, image(seed=1)["image"].float(), tmp_path / "detector.pt2", "torch_export", dynamic=False)
    program = torch.export.load(tmp_path / "detector.pt2").module()
    for seed in range(1, 4):
        pixels = image(seed=seed)["image"].float()
        assert_same(program(pixels), detector(pixels))


@pytest.mark.filterwarnings("ignore:`torch.jit.load`")
def test_torchscript_finds_the_same_in_images_of_other_sizes(tmp_path):
    detector = SingleImageDetector(lively_model(masks=True))
    write_model(detector, image()["image"].float(), tmp_path / "detector", "torchscript", dynamic=True)
    run = torch.jit.load(str(tmp_path / "detector"))
    boxes = []
    for pixels in PICTURES[:4]:
        wanted = detector(pixels)
        assert_same(run(pixels), wanted)
        boxes.append(wanted[0] / torch.tensor([*pixels.shape[:0:-1]] * 2))
    assert (boxes[0] - boxes[1]).abs().max() > 0.01, "boxes must depend on the image"


# of fewer cells than there are candidates, and of more
SIZES = [(64, 96), (96, 64), (33, 130), (200, 40), (64, 64), (10, 300), (300, 30), (256, 320)]
PICTURES = [image(*size, seed=seed)["image"].float() for seed, size in enumerate(SIZES)]
EVERYTHING = [
    f"model.init_proposal_boxes.{setting}"
    for setting in ("feature_level=[1,2,3]", "encode_boxes=True", "refine_boxes=True", "hand_on_queries=True")
]
VARIANTS = {
    "learned": {"boxes": "", "masks": True},
    "softmax": {"softmax": True},
    "box transformer": {"masks": True, "overrides": EVERYTHING},
    "image proposals": {"boxes": "image_proposals", "masks": True},
}


@pytest.mark.parametrize(
    ("variant", "format"),
    [*((variant, "onnx") for variant in VARIANTS), ("box transformer", "openvino"), ("image proposals", "openvino")],
)
def test_batches_of_any_number_and_sizes_find_what_the_model_finds_in_them(tmp_path, variant, format):
    model = lively_model(**VARIANTS[variant])
    detector = exportable(model, takes_batches=True)
    file = tmp_path / "detector.xml"
    write_model(detector, PICTURES[0], file, format, dynamic=True)
    run = RUNNERS[format](file)
    for pictures in (PICTURES, PICTURES[2:4], PICTURES[3:4]):
        found = run(*stacked([picture.numpy() for picture in pictures]))
        wanted = model.inference([{"image": picture} for picture in pictures], do_postprocess=False)
        for number, one in enumerate(wanted):
            own = {"boxes": one.pred_boxes.tensor, "scores": one.scores, "classes": one.pred_classes}
            own |= {"masks": one.pred_masks[:, 0]} if one.has("pred_masks") else {}
            own = {name: values.numpy() for name, values in own.items()}
            difference = compare(own, {name: found[name][found["image_index"] == number] for name in own})
            assert difference.agrees, difference
    assert len(own["scores"]) and ("masks" in found) == bool(VARIANTS[variant].get("masks"))


def by_onnxruntime(file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images, sizes: dict(zip(names, session.run(None, {"images": images, "sizes": sizes}), strict=True))


def by_openvino(file):
    model = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = ("boxes", "scores", "classes", "image_index", "masks")
    return lambda *batch: {name: values.copy() for name, values in zip(names, model(batch).values(), strict=False)}


RUNNERS = {"onnx": by_onnxruntime, "openvino": by_openvino}
