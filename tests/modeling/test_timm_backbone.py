"""timm's models as backbones of detectron2's FPN, and their weights by `timm://`."""

import sys

import huggingface_hub.constants
import pytest
import timm
import torch
from detectron2.modeling.backbone import FPN
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from safetensors.torch import save_file

from xray_lazy.config import get_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.experiment import build_model, build_optimizer
from xray_lazy.engine.precision import Precision
from xray_lazy.errors import UserError
from xray_lazy.modeling.timm_backbone import TimmBackbone


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_convnext", {}),
        ("test_resnet", {}),
        ("efficientnet_b0", {}),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False, "depths": (1, 1, 1, 1)}),
    ],
)
def test_feature_maps_have_the_channels_and_strides_that_are_stated(name, arguments):
    backbone = TimmBackbone(name, **arguments)
    maps = backbone(torch.rand(2, 3, 96, 160))
    shapes = backbone.output_shape()
    assert list(maps) == list(shapes) == ["res2", "res3", "res4", "res5"]
    for feature, stride in zip(maps, (4, 8, 16, 32), strict=True):
        assert maps[feature].shape == (2, shapes[feature].channels, 96 // stride, 160 // stride)
        assert shapes[feature].stride == stride
    assert backbone.size_divisibility == 32


def test_an_fpn_stands_on_it():
    fpn = FPN(TimmBackbone("test_convnext", ["res3", "res4"]), ["res3", "res4"], out_channels=8)
    assert {name: value.shape[1:] for name, value in fpn(torch.rand(1, 3, 64, 64)).items()} == {
        "p3": (8, 8, 8),
        "p4": (8, 4, 4),
    }


def test_batch_norm_is_frozen_unless_told():
    frozen, learning = TimmBackbone("test_resnet"), TimmBackbone("test_resnet", frozen_batch_norm=False)
    for backbone in (frozen, learning):
        backbone.train()(torch.rand(2, 3, 64, 64) * 100)
    assert all(torch.equal(value, torch.zeros_like(value)) for name, value in frozen.named_buffers() if "mean" in name)
    assert not all(torch.equal(v, torch.zeros_like(v)) for name, v in learning.named_buffers() if "mean" in name)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("convnext_tini", {}, "convnext_tiny"),
        ("convnext_tiny.fb_in22", {}, "convnext_tiny.fb_in22k"),
        ("vit_tiny_patch16_224", {}, "strides are 16, 16, 16"),
        ("resnet18", {"drop_path": 0.1}, "drop_path"),
        ("resnet18", {"out_features": ["res9"]}, "no feature map res9"),
    ],
)
def test_what_does_not_exist_is_an_error_that_names_what_does(name, arguments, words):
    with pytest.raises(UserError) as error:
        TimmBackbone(name, **arguments)
    assert words in str(error.value)


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError) as error:
        TimmBackbone("resnet18")
    assert "pip install timm" in error.value.fix


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A machine without internet on which timm has fetched the weights of a model before."""
    original = timm.create_model("test_resnet.r160_in1k")
    snapshot = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    save_file(original.state_dict(), snapshot / "model.safetensors")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return original


def test_pretrained_weights_are_loaded_into_the_backbone_of_a_detector(hub, tmp_path, caplog):
    model = torch.nn.ModuleDict({"backbone": FPN(TimmBackbone("test_resnet.r160_in1k"), ["res2", "res3"], 8)})
    Checkpointer(model).load("timm://test_resnet.r160_in1k")
    network = model["backbone"].bottom_up.network
    assert torch.equal(network.conv1[0].weight, hub.conv1[0].weight)
    assert torch.equal(network.layer4[0].conv1.weight, hub.layer4[0].conv1.weight)
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "left as initialised" in warning and "fpn_lateral2" in warning and "network" not in warning
    assert [path.name for path in (tmp_path / "cache" / "timm").iterdir()] == ["test_resnet.r160_in1k.pth"]


def test_the_convnext_experiment_takes_a_training_step_in_which_all_of_the_backbone_learns():
    cfg = get_config(
        "xray/mask_rcnn_convnext_tiny.py",
        ["model.backbone.bottom_up.drop_path_rate=0.0", "optimizer.params.layer_decay=0.9"],
    )
    assert cfg.train.init_checkpoint == "timm://convnext_tiny.fb_in22k"
    torch.manual_seed(0)
    model = build_model(cfg, "cpu")
    optimizer = build_optimizer(cfg, model)
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[20.0, 20.0, 80.0, 70.0]]))
    instances.gt_classes = torch.tensor([3])
    instances.gt_masks = BitMasks(torch.ones(1, 96, 128, dtype=torch.bool))
    assert len({group["lr"] for group in optimizer.param_groups}) == 6
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with EventStorage():
        losses = model([{"image": torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8), "instances": instances}])
    sum(losses.values()).backward()
    optimizer.step()
    assert {"loss_mask", "loss_cls", "loss_rpn_cls"} <= losses.keys()
    assert all(torch.isfinite(loss) for loss in losses.values())
    moved = [not torch.equal(value, before[name]) for name, value in model.named_parameters() if "bottom_up" in name]
    assert len(moved) > 150 and all(moved)


def test_the_experiment_for_few_scans_learns_all_but_what_it_freezes():
    cfg = get_config("xray/faster_rcnn_few_scans.py")
    assert cfg.train.init_checkpoint == "timm://tf_efficientnet_lite0.in1k"
    model = build_model(cfg, "cpu").train()
    instances = Instances((96, 128))
    instances.gt_boxes = Boxes(torch.tensor([[20.0, 20.0, 80.0, 70.0]]))
    instances.gt_classes = torch.tensor([3])
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with EventStorage(), Precision("cpu", **cfg.train.amp).autocast():
        losses = model([{"image": image, "instances": instances}])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    learning = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum()}
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learning == trained and not [name for name in trained if "conv_dw" in name or "blocks.2." in name]
    assert any("blocks.3." in name for name in trained)
