"""Weights are read from many formats, and never by running code."""

import os
import pickle
import re

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import instantiate

from xray_lazy.config import get_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.weights.weights_file import read_weights_file
from xray_lazy.engine.weights.weights_source import torchvision_names
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


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, suffix):
    """A model that diverged would detect nothing, and say nothing of it."""
    whole, broken = np.ones(3, np.float32), np.array([1, np.nan], np.float32)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {"a": whole, "b": broken}}))
    else:
        torch.save({"model": {"a": torch.from_numpy(whole), "b": torch.from_numpy(broken).half()}}, path)
    with pytest.raises(UserError, match="holds NaN in place of numbers, in b\n"):
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


def as_mmdetection(ours):
    """detectron2's names in MMDetection's words."""
    name = re.sub(r"^backbone\.bottom_up\.(stem\.)?", "backbone.", ours)
    name = re.sub(r"\bres(\d)", lambda match: f"layer{int(match[1]) - 1}", name)
    name = name.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")
    name = re.sub(r"\bconv(\d)\.norm", r"bn\1", name)
    name = re.sub(r"fpn_lateral(\d)", lambda match: f"neck.lateral_convs.{int(match[1]) - 2}.conv", name)
    name = re.sub(r"fpn_output(\d)", lambda match: f"neck.fpn_convs.{int(match[1]) - 2}.conv", name)
    name = name.replace("backbone.neck", "neck").replace("proposal_generator.rpn_head.", "rpn_head.rpn_")
    name = name.replace("objectness_logits", "cls").replace("anchor_deltas", "reg")
    name = re.sub(r"^roi_heads\.box_head\.fc(\d)", lambda m: f"roi_head.bbox_head.shared_fcs.{int(m[1]) - 1}", name)
    name = name.replace("roi_heads.box_predictor.cls_score", "roi_head.bbox_head.fc_cls")
    name = name.replace("roi_heads.box_predictor.bbox_pred", "roi_head.bbox_head.fc_reg")
    name = re.sub(
        r"^roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv", name
    )
    name = name.replace("roi_heads.mask_head.deconv", "roi_head.mask_head.upsample")
    return name.replace("roi_heads.mask_head.predictor", "roi_head.mask_head.conv_logits")


@pytest.fixture(scope="module")
def r50():
    with torch.device("meta"):
        return instantiate(get_config("xray/mask_rcnn_r50.py").model)


def empty_weights(names):
    return {name: torch.zeros(1) for name in names}


def test_mask_rcnns_weights_of_mmdetection_have_all_names_of_ours(r50, tmp_path):
    names = set(r50.state_dict())
    theirs = [as_mmdetection(name) for name in names]
    assert "roi_head.bbox_head.shared_fcs.0.weight" in theirs and "backbone.layer1.0.bn3.running_var" in theirs
    torch.save({"meta": {"epoch": 12}, "state_dict": empty_weights(theirs), "optimizer": {}}, tmp_path / "epoch_12.pth")
    content = read_weights_file(tmp_path / "epoch_12.pth")
    assert set(content["model"]) == names and "optimizer" not in content and content["expected"] is None


@pytest.mark.parametrize(
    ("style", "order"), [("style='pytorch'", "RGB"), ('style="caffe"', "BGR"), ("'style': 'caffe'", "BGR")]
)
def test_what_mmdetections_weights_expect_is_read_from_its_config(tmp_path, style, order):
    weights = empty_weights(["backbone.conv1.weight", "backbone.layer1.0.conv1.weight"])
    torch.save({"meta": {"cfg": f"model = dict(backbone=dict({style}))"}, "state_dict": weights}, tmp_path / "a.pth")
    assert read_weights_file(tmp_path / "a.pth")["expected"].input_format == order


@pytest.mark.parametrize(
    "meta", [{"CLASSES": ("gun", "knife")}, {"dataset_meta": {"classes": ["gun", "knife"]}}, {"CLASSES": None}, {}]
)
def test_mmdetections_weights_tell_their_classes(tmp_path, meta):
    weights = empty_weights(["backbone.conv1.weight", "backbone.layer1.0.conv1.weight"])
    torch.save({"meta": meta, "state_dict": weights}, tmp_path / "a.pth")
    known = ("gun", "knife") if any(meta.values()) else ()
    assert read_weights_file(tmp_path / "a.pth").get("class_names", ()) == known


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "detector.net.", "_orig_mod."])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", None])
def test_weights_are_unwrapped(tmp_path, prefix, key):
    weights = empty_weights([f"{prefix}backbone.bottom_up.stem.conv1.weight", f"{prefix}roi_heads.a", "criterion.b"])
    torch.save({key: weights, "epoch": 3, "pytorch-lightning_version": "2.4"} if key else weights, tmp_path / "a.ckpt")
    names = {"backbone.bottom_up.stem.conv1.weight", "roi_heads.a", "criterion.b"}
    assert set(read_weights_file(tmp_path / "a.ckpt")["model"]) == names


@pytest.mark.parametrize("content", [{"epoch": 3, "lr": 0.1}, {"state_dict": {"a": 1}}, {"model": {}}, {}])
def test_a_file_without_weights_says_what_it_has(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"does not hold weights by name.*but (epoch, lr|a|nothing)"):
        read_weights_file(tmp_path / "a.pth")


def r50_with(**settings):
    cfg = get_config("xray/mask_rcnn_r50.py").model
    cfg.backbone.bottom_up.stages.stride_in_1x1 = settings.pop("stride_in_1x1", True)
    cfg.update(settings)
    return instantiate(cfg)


TORCHVISION = {
    "input_format": "RGB",
    "pixel_mean": [123.675, 116.28, 103.53],
    "pixel_std": [58.395, 57.12, 57.375],
    "stride_in_1x1": False,
}


@pytest.mark.parametrize("kept", [*TORCHVISION, "all"])
def test_torchvisions_weights_are_refused_where_images_or_strides_are_caffes(tmp_path, kept):
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "resnet50.pth")
    settings = {name: value for name, value in TORCHVISION.items() if kept not in (name, "all")}
    if kept == "pixel_mean":
        settings["pixel_mean"] = TORCHVISION["pixel_mean"][::-1]
    with pytest.raises(UserError, match="torchvision's") as refused:
        Checkpointer(r50_with(**settings)).load(str(tmp_path / "resnet50.pth"))
    for name in TORCHVISION:
        is_told = name == kept or kept == "all" or {name, kept} == {"pixel_mean", "pixel_std"}
        assert (f"{name}=" in refused.value.fix) == is_told, name


@pytest.mark.parametrize(("channels", "is_known"), [(64, True), (256, False)])
def test_caffes_resnets_expect_bgr_and_its_statistics_and_a_resnext_its_own(tmp_path, channels, is_known):
    blobs = {"conv1_w": np.zeros((64, 3, 7, 7)), "res2_0_branch2a_w": np.zeros((channels, 64, 1, 1))}
    (tmp_path / "caffe.pkl").write_bytes(pickle.dumps(blobs))
    expected = read_weights_file(tmp_path / "caffe.pkl")["expected"]
    assert (expected is not None) == is_known
    if is_known:
        expected.check(r50_with())
        with pytest.raises(UserError, match="input_format=BGR"):
            expected.check(r50_with(input_format="RGB"))


def test_torchvisions_weights_are_loaded_where_everything_is_as_they_expect(tmp_path):
    weights = torchvision.models.resnet50(weights=None).state_dict()
    torch.save({"model": weights}, tmp_path / "resnet50.pth")
    model = r50_with(**TORCHVISION)
    Checkpointer(model).load(str(tmp_path / "resnet50.pth"))
    assert torch.equal(model.backbone.bottom_up.res4[2].conv1.weight, weights["layer3.2.conv1.weight"])
    own_statistics = {**TORCHVISION, "pixel_mean": [231.0, 226.0, 202.0], "pixel_std": [53.0, 43.0, 55.0]}
    Checkpointer(r50_with(**own_statistics)).load(str(tmp_path / "resnet50.pth"))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.zeros(2, device="meta"), "without its values"),
        (torch.eye(2).to_sparse(), "torch.sparse_coo"),
        (torch.zeros(2, dtype=torch.complex64), "torch.complex64"),
        (torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8), "torch.qint8"),
        (None, "a NoneType"),
        ("text", "a str"),
        ({"weight": torch.zeros(2)}, "a dict"),
    ],
)
def test_what_no_parameter_can_be_filled_with_is_named(tmp_path, value, kind):
    torch.save({"model": {"a.weight": torch.zeros(2), "b.weight": value}}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=rf"holds .*{kind}.* under b\.weight"):
        read_weights_file(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.zeros(2, complex), np.zeros(2, np.longdouble), np.zeros(2, "M8[s]")]
)
def test_an_array_that_is_no_tensor_is_named(tmp_path, array):
    (tmp_path / "odd.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(2), "b": array}, "__author__": "x"}))
    with pytest.raises(UserError, match=r"holds an array of .* under b"):
        read_weights_file(tmp_path / "odd.pkl")


@pytest.mark.parametrize(
    "content",
    [
        {"model": {1: torch.zeros(2)}},
        {2: torch.zeros(2)},
        {"model_state": [torch.zeros(2)]},
        {"model_state": {3: torch.zeros(2)}},
        {"blobs": 5},
        {"blobs": {4: torch.zeros(2)}},
    ],
)
def test_weights_without_names_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="does not hold weights by name"):
        read_weights_file(tmp_path / "odd.pth")


def test_a_program_and_another_archive_are_no_weights_that_were_cut_off(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), tmp_path / "model.pth")
    with pytest.raises(UserError, match="TorchScript"):
        read_weights_file(tmp_path / "model.pth")
    np.savez(tmp_path / "weights.npz", a=np.zeros(2))
    with pytest.raises(UserError, match="is no checkpoint"):
        read_weights_file(tmp_path / "weights.npz")


def test_in_place_of_a_folder_its_best_weights_are_proposed(tmp_path):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="is a folder") as refused:
        Checkpointer(model).load(str(tmp_path))
    assert "model_final.pth" not in refused.value.fix
    torch.save({"model": model.state_dict()}, tmp_path / "model_final.pth")
    with pytest.raises(UserError, match="is a folder") as refused:
        Checkpointer(model).load(str(tmp_path))
    Checkpointer(model).load(refused.value.fix.removeprefix("give a file: "))


@pytest.mark.parametrize("address", ["s3://bags/model.pth", "file:///tmp/model.pth"])
def test_an_address_that_nothing_here_loads_is_no_file_that_is_missing(address):
    with pytest.raises(UserError, match=f"nothing here loads {address.partition('://')[0]}://") as refused:
        Checkpointer(torch.nn.Linear(2, 2)).load(address)
    assert "download the file" in refused.value.fix
