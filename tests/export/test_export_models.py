"""R-CNNs as ONNX and TorchScript find what they find in PyTorch."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from torch import nn

from tests.export.conftest import CONFIG
from tests.lively_model import build_lively_model
from xray_lazy.config import get_config, load_config
from xray_lazy.engine.trained_model import load_trained_model
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.export import export_checks
from xray_lazy.export.agreement import compare
from xray_lazy.export.export_model import ExportOptions, describe, export_model
from xray_lazy.export.facts import SUFFIXES, facts_path, write_facts
from xray_lazy.export.formats import write_model
from xray_lazy.export.runtime import OUTPUTS, load_exported, stacked
from xray_lazy.export.single_image import SingleImageDetector, exportable

pytestmark = pytest.mark.slow

PREDICTOR = "model.roi_heads.box_predictor"
FASTER_RCNN = [f"~model.roi_heads.{key}" for key in ("mask_in_features", "mask_pooler", "mask_head")]
MODELS = {
    "mask_rcnn": [],
    # each bin of a region samples as many points as its size asks for
    "faster_rcnn": [*FASTER_RCNN, "model.roi_heads.box_pooler.sampling_ratio=0"],
}


def noise(height, width, seed=0):
    coarse = torch.rand(1, 3, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(seed)) * 255
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].numpy()


def export(weights, file, overrides=(), report=lambda line: None, **options):
    return load_exported(
        export_model(
            ExportOptions(CONFIG, weights=str(weights), output=str(file), overrides=overrides, **options), report
        )
    )


def in_pytorch(weights, overrides=()):
    """The model itself, called as an exported one."""
    detector = SingleImageDetector(load_trained_model(CONFIG, str(weights), overrides, "cpu").model)

    def call(image):
        with torch.no_grad():
            outputs = detector(torch.from_numpy(image))
        return {name: values.numpy() for name, values in zip(OUTPUTS, outputs, strict=False)}

    return call


@pytest.mark.parametrize(
    ("model", "format"), [("mask_rcnn", "onnx"), ("mask_rcnn", "torchscript"), ("faster_rcnn", "onnx")]
)
def test_an_exported_model_finds_the_same_in_images_of_any_size(tmp_path, weights, model, format):
    exported = export(weights, tmp_path / "model", MODELS[model], format=format)
    assert exported.facts.dynamic and exported.facts.has_masks == (model != "faster_rcnn")
    model_itself = in_pytorch(weights, MODELS[model])
    numbers = []
    for seed, (height, width) in enumerate([(48, 64), (64, 48), (33, 95), (128, 32), (100, 200)]):
        image = noise(height, width, seed)
        found = exported(image)
        difference = compare(model_itself(image), found)
        assert difference.agrees, difference
        assert found["classes"].dtype == np.int64 and found["boxes"].dtype == np.float32
        numbers.append(difference.wanted)
    assert len(set(numbers)) > 1, "how many there are must depend on the image"


BATCH = [noise(*size, seed) for seed, size in enumerate([(48, 64), (64, 48), (33, 95), (64, 64)] * 2)]


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("mask_rcnn", []),
        ("faster_rcnn", []),
        ("mask_rcnn", [f"+{PREDICTOR}.cls_agnostic_bbox_reg=True"]),
        ("mask_rcnn", [f"{PREDICTOR}.test_score_thresh=0.0", "model.proposal_generator.post_nms_topk=[200,200]"]),
        ("mask_rcnn", [f"{PREDICTOR}.test_topk_per_image=1"]),
        ("mask_rcnn", [f"{PREDICTOR}.test_score_thresh=1.0"]),
        ("mask_rcnn", ["+model.proposal_generator.min_box_size=200"]),
    ],
    ids=["mask", "faster", "boxes of no class", "100 each", "one each", "none", "no proposals"],
)
def test_a_batch_of_several_sizes_finds_what_detectron2_finds_in_it(weights, model, overrides, tmp_path):
    overrides = [*MODELS[model], *overrides]
    if any("agnostic" in one for one in overrides):
        weights = tmp_path / "agnostic.pth"
        torch.save({"model": build_lively_model(load_config(CONFIG, overrides)).state_dict()}, weights)
    trained = load_trained_model(CONFIG, str(weights), overrides, "cpu")
    detector = exportable(trained.model, takes_batches=True)
    assert detector.takes_batches
    facts = dataclasses.replace(describe(trained, "onnx", None), batched=True)
    write_model(detector, torch.from_numpy(BATCH[0]), tmp_path / "model.onnx", "onnx", dynamic=True)
    write_facts(tmp_path / "model.onnx", facts)
    exported = load_exported(tmp_path / "model.onnx")
    for images in (BATCH, BATCH[2:3]):
        with torch.no_grad():
            batch = [{"image": torch.from_numpy(image)} for image in images]
            wanted = trained.model.inference(batch, do_postprocess=False)
        for one, found in zip(wanted, exported.detect(images), strict=True):
            own = {"boxes": one.pred_boxes.tensor, "scores": one.scores, "classes": one.pred_classes}
            own |= {"masks": one.pred_masks[:, 0]} if one.has("pred_masks") else {}
            difference = compare({name: values.numpy() for name, values in own.items()}, found)
            assert difference.agrees, difference
    if "min_box_size" in str(overrides) or "thresh=1.0" in str(overrides):
        assert not any(map(len, wanted))
    elif "topk_per_image=1" in str(overrides):
        assert all(len(one) == 1 for one in wanted)


def test_a_cascade_finds_in_a_batch_what_detectron2_finds_in_it():
    cfg = get_config("xray/cascade_mask_rcnn_r50.py", ["model.backbone.bottom_up.stages.depth=50"])
    torch.manual_seed(0)
    model = instantiate(cfg.model).eval().requires_grad_(False)
    for predictor in model.roi_heads.box_predictor:
        predictor.cls_score.weight.mul_(300)
    images = [torch.from_numpy(image) for image in BATCH[:3]]
    detector = exportable(model, takes_batches=True)
    assert detector.takes_batches
    tensors = map(torch.from_numpy, stacked([image.numpy() for image in images]))
    boxes, scores, classes, owner, masks = detector(*tensors)
    wanted = model.inference([{"image": image} for image in images], do_postprocess=False)
    assert any(map(len, wanted))
    for image, one in enumerate(wanted):
        own = {"boxes": one.pred_boxes.tensor, "scores": one.scores, "classes": one.pred_classes}
        own["masks"] = one.pred_masks[:, 0]
        found = {"boxes": boxes, "scores": scores, "classes": classes, "masks": masks}
        found = {name: values[owner == image].numpy() for name, values in found.items()}
        difference = compare({name: values.numpy() for name, values in own.items()}, found)
        assert difference.agrees, difference


def test_a_file_of_one_image_at_a_time_as_they_were_before_still_runs(tmp_path, weights):
    trained = load_trained_model(CONFIG, str(weights), device="cpu")
    file = tmp_path / "model.onnx"
    write_model(SingleImageDetector(trained.model), torch.from_numpy(BATCH[0]), file, "onnx", dynamic=True)
    facts = dataclasses.asdict(describe(trained, "onnx", None))
    earlier = {
        name: value for name, value in facts.items() if name not in ("batched", "precision", "average_precision")
    }
    facts_path(file).write_text(json.dumps(earlier))
    for image, found in zip(BATCH, load_exported(file).detect(BATCH), strict=True):
        assert compare(in_pytorch(weights)(image), found).agrees


@pytest.mark.parametrize(("format", "precision"), [("openvino", "float32"), ("onnx", "float16"), ("onnx", "int8")])
def test_other_formats_and_precisions_are_held_against_pytorch_by_their_ap(tmp_path, weights, format, precision):
    lines = []
    suffix = SUFFIXES[format]
    exported = export(weights, tmp_path / f"model{suffix}", report=lines.append, format=format, precision=precision)
    facts = exported.facts
    assert (facts.format, facts.precision, facts.batched) == (format, precision, True)
    assert set(facts.average_precision) == {"bbox", "segm"}
    assert any("of the test set: bbox" in line for line in lines)
    found = exported.detect(BATCH)
    assert len(found) == len(BATCH) and any(len(one["scores"]) for one in found)
    if precision == "float32":
        assert compare(in_pytorch(weights)(BATCH[0]), exported(BATCH[0])).agrees
    else:
        exact = export(weights, tmp_path / "exact.onnx")
        assert (tmp_path / "model.onnx").stat().st_size < (tmp_path / "exact.onnx").stat().st_size
        assert any(
            (a["scores"].shape != b["scores"].shape or (a["scores"] != b["scores"]).any())
            for a, b in zip(found, exact.detect(BATCH), strict=True)
        )


def test_a_model_that_loses_too_much_is_written_only_where_that_is_allowed(tmp_path, weights, monkeypatch):
    file = tmp_path / "model.onnx"
    monkeypatch.setitem(export_checks.AP_LIMITS, "int8", -1.0)
    with pytest.raises(RunFailure, match=r"it loses .* AP, where int8 may lose -1"):
        export(weights, file, precision="int8", calibration=2)
    assert not list(tmp_path.iterdir())
    lines = []
    export(weights, file, report=lines.append, precision="int8", calibration=2, allow_loss=True)
    assert file.is_file() and any(line.startswith("it loses") for line in lines)


def test_lower_precision_without_the_data_needs_images_and_leave(tmp_path, weights, tiny_set):
    gone = [f"dataloader.{loader}.dataset.names.json_file={tmp_path}/gone.json" for loader in ("train", "test")]
    options = {"overrides": gone, "precision": "int8", "output": str(tmp_path / "model.onnx"), "weights": str(weights)}
    told: list[str] = []
    with pytest.raises(UserError, match="what int8 loses of AP is not known: the test set") as error:
        export_model(ExportOptions(CONFIG, **options), told.append)
    assert error.value.exit_code == 2 and not told, "before any work"
    with pytest.raises(UserError, match="needs images to calibrate on"):
        export_model(ExportOptions(CONFIG, **options, allow_loss=True), lambda line: None)
    options["images"] = [str(tiny_set / "images" / "bag_3.png")]
    export_model(ExportOptions(CONFIG, **options, allow_loss=True), lambda line: None)
    assert load_exported(tmp_path / "model.onnx").facts.average_precision == {}
    with pytest.raises(UserError, match="what int8 loses of AP is not known: it is measured") as error:
        export_model(ExportOptions(CONFIG, **options, size=(64, 64)), told.append)
    assert error.value.fix.startswith("leave out --size") and not told, "before any work"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "torchscript", "precision": "int8"}, "torchscript has no int8"),
        ({"format": "openvino", "output": "model"}, "no name for an OpenVINO model"),
    ],
)
def test_what_a_format_does_not_have_is_one_message(weights, changes, words):
    with pytest.raises(UserError, match=words):
        export_model(ExportOptions(CONFIG, weights=str(weights), **changes), lambda line: None)


@pytest.mark.parametrize(
    ("overrides", "count", "format"),
    [
        ([f"{PREDICTOR}.test_score_thresh=1.0"], 0, "onnx"),
        ([f"{PREDICTOR}.test_score_thresh=1.0"], 0, "torchscript"),
        ([f"{PREDICTOR}.test_topk_per_image=1"], 1, "onnx"),
    ],
    ids=["none, ONNX", "none, TorchScript", "one, ONNX"],
)
def test_no_detections_and_one_are_detections_too(tmp_path, weights, overrides, count, format):
    lines = []
    exported = export(weights, tmp_path / "model", overrides, lines.append, format=format)
    found = exported(noise(48, 64))
    assert {name: values.shape for name, values in found.items()} == {
        "boxes": (count, 4),
        "scores": (count,),
        "classes": (count,),
        "masks": (count, 28, 28),
    }
    assert compare(in_pytorch(weights, overrides)(noise(48, 64)), found).agrees
    assert any("no detections to compare" in line for line in lines) == (count == 0)
    assert any("it agrees" in line for line in lines) == (count > 0)


def test_a_image_that_can_hold_nothing_gives_nothing(tmp_path, weights):
    overrides = ["+model.proposal_generator.min_box_size=200"]
    exported = export(weights, tmp_path / "model", overrides)
    assert [len(values) for values in exported(noise(48, 64)).values()] == [0, 0, 0, 0]


def test_a_model_of_a_fixed_size_takes_smaller_images_filled_up(tmp_path, weights):
    exported = export(weights, tmp_path / "model.onnx", size=(96, 64))
    facts = exported.facts
    assert not facts.dynamic and (facts.width, facts.height) == (96, 64)
    height, width = facts.input_size(300, 200)
    assert (height, width) == (64, 43)
    image = noise(height, width)
    filled = np.empty((3, 64, 96), np.float32)
    filled[:] = np.array(facts.padding)[:, None, None]
    filled[:, :height, :width] = image
    assert compare(in_pytorch(weights)(filled), exported(image)).agrees
    with pytest.raises(UserError, match="the image is 97x64, the model takes 96x64"):
        exported(noise(64, 97))


def test_the_facts_are_those_of_the_training(tmp_path, weights):
    lines = []
    exported = export(weights, tmp_path / "models" / "tiny.onnx", report=lines.append)
    facts = exported.facts
    assert (facts.class_names, facts.input_format) == (("gun", "knife"), "BGR")
    assert (facts.short_edge, facts.max_size, facts.size_divisibility) == (48, 64, 32)
    assert (facts.weights, facts.iteration) == (str(weights), 7)
    assert json.loads((tmp_path / "models" / "tiny.onnx.json").read_text())["format"] == "onnx"
    names = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert names == ["run_onnx.py", "tiny.onnx", "tiny.onnx.json"]
    [table] = [line for line in lines if line.startswith("image")]
    assert [row.split()[0] for row in table.splitlines()[2:]] == [
        "bag_0.png",
        "bag_0.png,",
        "bag_1.png",
        "bag_2.png",
        "white",
        "a",
    ]


def test_without_the_data_made_up_images_are_compared(tmp_path, weights):
    lines = []
    overrides = [f"dataloader.test.dataset.names.json_file={tmp_path}/gone.json"]
    exported = export(weights, tmp_path / "model.onnx", overrides, lines.append)
    assert exported.facts.class_names == ("gun", "knife")
    assert any("made up 1, turned" in line for line in lines)


def test_chosen_images_are_compared(tmp_path, weights, tiny_set):
    lines = []
    image = str(tiny_set / "images" / "bag_3.png")
    export(weights, tmp_path / "model.onnx", report=lines.append, images=[image])
    [table] = [line for line in lines if line.startswith("image")]
    assert [row.split()[0] for row in table.splitlines()[2:]] == ["bag_3.png", "bag_3.png,", "white", "a"]


class ForgetfulDetector(nn.Module):
    """A detector whose box depends on the image by way of Python, which a trace takes for a constant."""

    def __init__(self, input_format):
        super().__init__()
        self.input_format = input_format
        self.backbone = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.backbone.weight, 0.001)  # a score that counts, whatever was drawn before
        self.backbone.size_divisibility = 0
        self.register_buffer("pixel_mean", torch.zeros(3, 1, 1))

    def inference(self, batch, do_postprocess):
        image = batch[0]["image"]
        size = float(int(image.sum()) % 17)
        if size > 8:
            size += 1
        found = Instances(tuple(image.shape[1:]))
        found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, size, size]]))
        found.scores, found.pred_classes = self.backbone(image).sigmoid().max().view(1), torch.tensor([0])
        return [found]


@pytest.fixture
def forgetful(tmp_path):
    """Export it to a file in `out`, where there is one already."""
    config = tmp_path / "forgetful.py"
    config.write_text(
        f"""
from detectron2.config import LazyCall as L
from tests.export.test_export_models import ForgetfulDetector
from xray_lazy.config import load_config

tiny = load_config({CONFIG!r})
dataloader, train = tiny.dataloader, tiny.train
del tiny
model = L(ForgetfulDetector)(input_format="BGR")
"""
    )
    weights = tmp_path / "weights.pth"
    torch.save({"model": ForgetfulDetector("BGR").state_dict()}, weights)
    output = tmp_path / "out" / "model"
    output.parent.mkdir()
    output.write_text("an earlier one")
    facts = facts_path(output)
    facts.write_text('{"format": "onnx", "class_names": []}')

    def export(format, report=lambda line: None):
        try:
            export_model(ExportOptions(str(config), format, str(output), str(weights)), report)
        finally:
            assert set(output.parent.iterdir()) == {output, facts}
            assert output.read_text() == "an earlier one"

    return export


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_file_that_does_not_agree_is_not_written(forgetful, format):
    lines = []
    with pytest.raises(RunFailure, match="does not agree with PyTorch"):
        forgetful(format, lines.append)
    assert any("bag_2.png" in line for line in lines), "the differences are shown"


def test_what_a_format_cannot_express_is_one_message(forgetful):
    with pytest.raises(RunFailure, match="ForgetfulDetector can't be written as torch_export") as caught:
        forgetful("torch_export")
    assert "\n" not in caught.value.message and "--format onnx or torchscript" in caught.value.fix


def test_an_rcnn_is_refused_as_torch_export_before_the_work(weights):
    trained = load_trained_model(CONFIG, str(weights), device="cpu")
    with pytest.raises(UserError, match="torch_export can't hold GeneralizedRCNN"):
        describe(trained, "torch_export", None)


def test_a_model_of_another_kind_is_refused(tmp_path, weights):
    trained = load_trained_model(CONFIG, str(weights), device="cpu")
    other = type(trained)(**vars(trained) | {"model": nn.Linear(1, 1)})
    with pytest.raises(UserError, match="Linear can't be exported"):
        describe(other, "onnx", None)
