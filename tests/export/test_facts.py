"""The JSON file beside an exported model."""

import dataclasses
import json

import numpy as np
import pytest
from detectron2.data.transforms import ResizeShortestEdge
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from xray_lazy.errors import UserError
from xray_lazy.export.export_model import reader_settings
from xray_lazy.export.facts import ModelFacts, facts_path, read_facts, sha256_of, write_facts
from xray_lazy.export.run_onnx import load, prepare
from xray_lazy.export.runtime import load_exported


def facts(**changes):
    values = {
        "format": "onnx",
        "class_names": ("gun", "knife"),
        "input_format": "BGR",
        "short_edge": 48,
        "max_size": 64,
        "size_divisibility": 32,
        "dynamic": True,
        "height": 48,
        "width": 64,
        "padding": (1.0, 2.0, 3.0),
        "has_masks": True,
        "device": "cpu",
        "model": "GeneralizedRCNN",
        "weights": "model_final.pth",
        "iteration": None,
    }
    return ModelFacts(**values | changes)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 1000), st.integers(16, 2000))
def test_images_get_the_size_of_training(height, width, short_edge, max_size):
    assume(max(height, width) / min(height, width) < 16)
    size = facts(short_edge=short_edge, max_size=max_size).input_size(height, width)
    expected = ResizeShortestEdge.get_output_shape(height, width, short_edge, max_size)
    # detectron2 rounds on the way; the last digit may fall to the other side
    assert np.abs(np.subtract(size, expected)).max() <= 1


@given(st.integers(1, 300), st.integers(1, 300))
def test_images_fit_into_a_fixed_size_and_touch_it(height, width):
    new_height, new_width = facts(dynamic=False, height=40, width=60).input_size(height, width)
    assert new_height <= 40 and new_width <= 60
    assert new_height == 40 or new_width == 60


@pytest.mark.parametrize("changes", [{}, {"dynamic": False, "height": 40, "width": 60}, {"input_format": "RGB"}])
def test_the_standalone_example_prepares_images_as_the_facts_say(changes):
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    own = facts(**changes)
    tensor, scale = prepare(image, vars(own))
    height, width = own.input_size(50, 90)
    assert scale == (width / 90, height / 50)
    assert tensor.shape == ((3, height, width) if own.dynamic else (3, 40, 60)) and tensor.dtype == np.float32
    means = image.mean((0, 1)) if own.input_format == "BGR" else image.mean((0, 1))[::-1]
    np.testing.assert_allclose(tensor[:, :height, :width].mean((1, 2)), means, atol=3)
    if not own.dynamic:
        np.testing.assert_array_equal(tensor[:, height:], np.broadcast_to([[[1]], [[2]], [[3]]], (3, 40 - height, 60)))


def test_facts_come_back_from_their_file(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    write_facts(model, facts())
    assert read_facts(model) == facts(model_sha256=sha256_of(model))
    content = json.loads((tmp_path / "model.onnx.json").read_text())
    assert content["class_names"] == ["gun", "knife"] and content["short_edge"] == 48


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "has no model.onnx.json beside it"), ("{", "is not the description"), ("{}", "is not the description")],
)
def test_a_model_without_its_facts_is_one_message(tmp_path, content, words):
    model = tmp_path / "model.onnx"
    with pytest.raises(UserError, match="there is no exported model"):
        read_facts(model)
    model.write_bytes(b"")
    if content is not None:
        (tmp_path / "model.onnx.json").write_text(content)
    with pytest.raises(UserError, match=words):
        read_facts(model)


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "torch_export"])
def test_a_damaged_model_is_one_message(tmp_path, kind):
    model = tmp_path / "model"
    model.write_bytes(b"damaged")
    write_facts(model, facts(format=kind))
    with pytest.raises(UserError, match=f"can't be loaded as {kind}"):
        load_exported(model)


def test_the_standalone_example_refuses_models_of_raw_scans(tmp_path):
    (tmp_path / "raw.onnx").write_bytes(b"")
    own = facts(reader={"channels": 2, "window": [500, 60000]})
    write_facts(tmp_path / "raw.onnx", own)
    with pytest.raises(SystemExit, match="8-bit"):
        load(str(tmp_path / "raw.onnx"))


class OwnReader:
    """As a user may name one in the config."""


def test_a_reader_of_the_users_own_is_not_exported_as_if_it_were_ours():
    node = {"_target_": f"{__name__}.{OwnReader.__name__}"}
    cfg = OmegaConf.create({"dataloader": {"test": {"mapper": {"reader": node}}}})
    with pytest.raises(UserError, match="OwnReader reads the images"):
        reader_settings(cfg)
    assert reader_settings(OmegaConf.create({"dataloader": {"test": {"mapper": {}}}})) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
)


@pytest.fixture(scope="module")
def empty_model(tmp_path_factory):
    file = tmp_path_factory.mktemp("facts") / "model.onnx"
    file.write_bytes(b"")
    return file


@settings(max_examples=40)
@given(st.sampled_from([entry.name for entry in dataclasses.fields(ModelFacts)]), JSON)
def test_any_value_of_a_fact_is_taken_or_told_of(empty_model, name, value):
    facts_path(empty_model).write_text(json.dumps(dataclasses.asdict(facts()) | {name: value}))
    try:
        height, width = read_facts(empty_model).input_size(50, 90)
    except UserError:
        return
    assert height >= 1 and width >= 1


def test_files_of_two_exports_are_told_apart(tmp_path):
    models = [tmp_path / name for name in ("one.xml", "other.xml")]
    for model in models:
        model.write_bytes(b"the same graph")
        model.with_suffix(".bin").write_text(model.name)
        write_facts(model, facts(format="openvino"))
        read_facts(model)
    models[0].with_suffix(".bin").replace(models[1].with_suffix(".bin"))
    with pytest.raises(UserError, match=r"other\.xml is not what other\.xml\.json describes"):
        read_facts(models[1])
    with pytest.raises(UserError, match=r"one\.xml has no one\.bin beside it"):
        read_facts(models[0])
    model = tmp_path / "model.onnx"
    model.write_bytes(b"first")
    write_facts(model, facts())
    model.write_bytes(b"second")
    with pytest.raises(UserError, match=r"model\.onnx is not what"):
        load_exported(model)
    with pytest.raises(SystemExit, match="of another export"):
        load(str(model))


@pytest.mark.parametrize("changes", [{"class_names": [1, 2]}, {"short_edge": "48"}, {"has_masks": None}])
def test_facts_of_other_kinds_are_told_of(tmp_path, changes):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    write_facts(model, facts(**changes))
    with pytest.raises(UserError, match="is not the description"):
        read_facts(model)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_the_standalone_example_says_what_it_can_not_load(tmp_path, content):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no model")
    if content is not None:
        (tmp_path / "model.onnx.json").write_text(content)
    with pytest.raises(SystemExit, match=r"can't load .*model\.onnx: "):
        load(str(model))
