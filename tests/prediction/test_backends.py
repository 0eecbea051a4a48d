"""Ways to run a trained model: each finds what PyTorch finds, and the fastest is chosen by what was measured."""

import json
import shutil

import numpy as np
import pytest
import torch

from xray_lazy.errors import UserError
from xray_lazy.prediction import backend_choice
from xray_lazy.prediction.backend_choice import load_fastest, tune
from xray_lazy.prediction.backends import BACKENDS, load_backend
from xray_lazy.prediction.detector import ExportedDetector, TrainedDetector
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.prediction.run_prediction import PredictOptions, run_prediction

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tuned(run_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "run"
    shutil.copytree(run_folder, folder)
    lines = []
    best = tune(str(folder), lines.append, calibration=4)
    return folder, best, lines


@pytest.fixture
def copied(tuned, tmp_path):
    """The folder, to change what was written down."""
    folder = shutil.copytree(tuned[0], tmp_path / "run")
    place = folder / "exported" / "backends.json"

    def change(**values):
        place.write_text(json.dumps(json.loads(place.read_text()) | values))

    return folder, place, change


def test_all_backends_are_measured_and_the_fastest_is_kept(tuned):
    folder, best, lines = tuned
    record = json.loads((folder / "exported" / "backends.json").read_text())
    [seconds] = record["seconds"].values()
    assert set(record["average_precision"]) == set(seconds) == set(BACKENDS)
    assert seconds[best] <= min(seconds[name] for name in ("pytorch", "onnx", "openvino"))
    assert record["average_precision"]["onnx"] == pytest.approx(record["average_precision"]["pytorch"])
    assert best in lines[-1] and all(any(line.startswith(f"{name}: ") for line in lines) for name in BACKENDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_each_backend_finds_what_pytorch_finds(tuned, images, name):
    wanted = Predictor.of(tuned[0], device="cpu").predict(images)
    found = Predictor.of(tuned[0], device="cpu", backend=name).predict(images)
    coarse = BACKENDS[name].file == "int8" or BACKENDS[name].computes_in == "bfloat16"
    for own, theirs in zip(wanted, found, strict=True):
        assert own.image_size == theirs.image_size and theirs.has("pred_masks")
        if coarse:
            assert abs(len(own) - len(theirs)) <= max(3, 0.3 * len(own))
        else:
            assert len(own) == len(theirs)
            # resized in another way, as exported models are
            assert np.abs(own.scores.numpy() - theirs.scores.numpy()).max(initial=0) < 0.02


def test_half_precision_is_in_the_layers_alone(tuned):
    model = load_backend("pytorch_bfloat16", tuned[0], device="cpu").model
    assert next(model.backbone.parameters()).dtype == torch.bfloat16
    assert next(model.roi_heads.box_predictor.parameters()).dtype == torch.float32


def test_another_processor_is_measured_once_and_remembered(copied, monkeypatch):
    folder, place, _ = copied
    monkeypatch.setattr(backend_choice, "processor", lambda: "another one, 64 threads")
    load_fastest(folder)
    assert set(json.loads(place.read_text())["seconds"]["another one, 64 threads"]) == set(BACKENDS)
    monkeypatch.setattr(backend_choice, "_seconds", lambda *_: pytest.fail("it is known"))
    load_fastest(folder)


def test_what_loses_too_much_is_not_the_fastest(copied):
    folder, place, change = copied
    [here] = json.loads(place.read_text())["seconds"]
    seconds = dict.fromkeys(BACKENDS, 2.0) | {"openvino_int8": 0.1, "onnx": 0.5}
    precision = {name: {"bbox": 50.0, "segm": 40.0} for name in BACKENDS}
    change(seconds={here: seconds}, average_precision=precision)
    assert isinstance(load_fastest(folder), ExportedDetector)
    change(seconds={here: seconds}, average_precision=precision | {"openvino_int8": {"bbox": 50.0, "segm": 38.9}})
    assert isinstance(load_fastest(folder), ExportedDetector)
    lossy = {name: {"bbox": 45.0, "segm": 40.0} for name in BACKENDS if name != "pytorch"}
    change(seconds={here: seconds}, average_precision=precision | lossy)
    assert isinstance(load_fastest(folder), TrainedDetector)


def test_what_was_measured_of_other_weights_is_not_taken(copied):
    folder, place, _ = copied
    weights = torch.load(folder / "model_final.pth")
    torch.save(weights | {"iteration": 8}, folder / "model_final.pth")
    with pytest.raises(UserError, match=r"is of other weights than those in .*run"):
        load_fastest(folder)
    for name in ("onnx", "openvino_int8"):
        with pytest.raises(UserError, match=r"\.onnx is of other weights than those in .*run"):
            Predictor.of(folder, device="cpu", backend=name)
    place.write_text("[]")
    with pytest.raises(UserError, match="does not tell how fast backends are"):
        load_fastest(folder)
    place.unlink()
    with pytest.raises(UserError, match="is not known"):
        Predictor.of(folder, backend="fastest")


def test_what_was_measured_of_other_files_is_not_taken(copied):
    folder, place, _ = copied
    [file] = [path for path in place.parent.glob("*.onnx") if "int8" in path.name]
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UserError, match="is of other exported files than those in its folder"):
        load_fastest(folder)


def test_a_file_of_other_settings_is_not_the_run(copied):
    folder, _, _ = copied
    facts = next(path for path in folder.rglob("*.onnx.json") if "int8" not in path.name)
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"overrides": ["model.roi_heads.num_classes=2"]}))
    with pytest.raises(UserError, match=r"exported with other settings than those of .*run: model\.roi_heads"):
        Predictor.of(folder, device="cpu", backend="onnx")
    assert Predictor.of(facts.with_suffix(""), device="cpu").class_names


@pytest.mark.parametrize(
    "values",
    [
        {"average_precision": {"pytorch": {"bbox": 1.0}, "onnx": None}},
        {"average_precision": {"pytorch": {"bbox": 1.0}, "onnx": {"bbox": "x"}}},
        {"seconds": []},
        {"seconds": None},
    ],
)
def test_a_record_that_is_no_record_is_told_of(copied, values):
    folder, _, change = copied
    change(**values)
    with pytest.raises(UserError, match="does not tell how fast backends are"):
        load_fastest(folder)


def test_where_nothing_was_measured_it_is_measured(copied):
    folder, place, change = copied
    [here] = json.loads(place.read_text())["seconds"]
    change(seconds={here: {}})
    load_fastest(folder)
    assert set(json.loads(place.read_text())["seconds"][here]) == set(BACKENDS)


def test_where_ap_is_not_known_it_is_pytorch(copied):
    folder, _, change = copied
    change(average_precision={name: {"bbox": float("nan")} for name in BACKENDS})
    assert isinstance(load_fastest(folder), TrainedDetector)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backend": "tensorrt"}, "there is no backend 'tensorrt'"),
        ({"backend": "onnx"}, "needs .*model_final.onnx"),
        ({"backend": "onnx", "weights": "other.pth"}, "takes no other weights or settings"),
        ({"backend": "fastest", "overrides": ["a=1"]}, "of the run's own weights and settings"),
    ],
)
def test_what_a_person_has_to_mend_is_one_message(run_folder, settings, words):
    with pytest.raises(UserError, match=words):
        Predictor.of(run_folder, **settings)
    with pytest.raises(UserError, match="is no output folder"):
        Predictor.of(run_folder / "model_final.pth", **settings)


def test_an_exported_model_is_not_for_tiles(tuned, tiny_set, tmp_path):
    options = PredictOptions(
        str(tuned[0]), [str(tiny_set / "images")], str(tmp_path / "found"), device="cpu", backend="onnx", tile_width=32
    )
    with pytest.raises(UserError, match="an exported model is for whole images"):
        run_prediction(options)
    assert not (tmp_path / "found").exists()
