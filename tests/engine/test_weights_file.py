"""Weights are read from many formats, and never by running code."""

import os
import pickle

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import instantiate

from xray_lazy.config import get_config
from xray_lazy.engine.weights_file import read_weights_file, torchvision_names
from xray_lazy.errors import UserError


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, suffix):
    path, trace = tmp_path / f"weights{suffix}", str(tmp_path / "was_run")
    content = {"model": {"a": np.zeros(2)}, "__author__": "x", "hook": Payload(trace)}
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match="not loaded"):
        read_weights_file(path)
    assert not os.path.exists(trace)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_model_zoo_file_of_arrays_is_read(tmp_path, protocol):
    path = tmp_path / "model_final.pkl"
    weights = {"backbone.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.float32(2)}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "zoo"}, protocol=protocol))
    content = read_weights_file(path)
    assert content["__author__"] == "zoo"
    np.testing.assert_array_equal(content["model"]["backbone.weight"], weights["backbone.weight"])


def test_caffe2_and_pycls_files_are_matched_by_heuristics(tmp_path):
    (tmp_path / "caffe.pkl").write_bytes(pickle.dumps({"conv1_w": np.zeros(2), "conv1_w_momentum": np.zeros(2)}))
    caffe = read_weights_file(tmp_path / "caffe.pkl")
    assert caffe["matching_heuristics"] and list(caffe["model"]) == ["conv1_w"]
    torch.save({"model_state": {"stem.conv.weight": torch.zeros(1)}}, tmp_path / "net.pyth")
    assert read_weights_file(tmp_path / "net.pyth")["matching_heuristics"]


@pytest.mark.parametrize("cut", [0, 10, 500])
@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_file_that_is_cut_off_is_one_clear_error(tmp_path, suffix, cut):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {"a": np.zeros(1000)}})[:cut])
    else:
        torch.save({"model": {"a": torch.zeros(1000)}}, path)
        path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="can't read the checkpoint"):
        read_weights_file(path)


@pytest.mark.parametrize("name", ["notes.pth", "notes.pkl", "arrays.pth"])
def test_a_file_of_another_kind_is_named_so_and_torch_says_nothing(tmp_path, name, recwarn):
    (tmp_path / name).write_bytes(b"hello" if "notes" in name else pickle.dumps({"a": [1.0]}, protocol=4))
    with pytest.raises(UserError, match=f"{name} is no checkpoint"):
        read_weights_file(tmp_path / name)
    assert not recwarn.list


def test_a_missing_file_and_one_that_is_no_weights_are_errors(tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_weights_file(tmp_path / "absent.pth")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(UserError, match="list"):
        read_weights_file(tmp_path / "list.pth")


@pytest.mark.parametrize(("builder", "depth"), [(torchvision.models.resnet18, 18), (torchvision.models.resnet50, 50)])
def test_torchvision_resnets_fill_the_whole_backbone(builder, depth):
    cfg = get_config("xray/mask_rcnn_r50.py")
    cfg.model.backbone.bottom_up.stages.depth = depth
    if depth == 18:
        cfg.model.backbone.bottom_up.stages.pop("stride_in_1x1")
    ours = instantiate(cfg.model.backbone).state_dict()
    theirs = torchvision_names(builder(weights=None).state_dict())
    expected = {f"backbone.{name}": tuple(v.shape) for name, v in ours.items() if name.startswith("bottom_up")}
    assert {name: tuple(value.shape) for name, value in theirs.items()} == expected


def test_torchvision_mask_rcnn_fills_backbone_and_fpn():
    theirs = torchvision_names(
        torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    )
    ours = instantiate(get_config("xray/mask_rcnn_r50.py").model.backbone).state_dict()
    assert set(theirs) == {f"backbone.{name}" for name in ours}
    assert all(tuple(ours[name.removeprefix("backbone.")].shape) == tuple(v.shape) for name, v in theirs.items())
