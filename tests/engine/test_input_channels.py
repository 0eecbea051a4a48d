"""Images of any number of channels: what must agree is checked, and pretrained filters are made to fit."""

import pytest
import torch
from detectron2.config import instantiate

from xray_lazy.config import load_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.weights.input_channels import check_input_channels, first_convolution
from xray_lazy.engine.weights.weightless import build_weightless
from xray_lazy.errors import UserError

DEMO = "configs/xray/mask_rcnn_r18_demo.py"
RAW = "configs/xray/mask_rcnn_r18_raw_demo.py"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (RAW, "backbone.bottom_up.stem.conv1"),
        ("configs/xray/mask_rcnn_vitdet_b.py", "backbone.net.patch_embed.proj"),
        ("configs/xray/sparse_rcnn_r50.py", "backbone.bottom_up.stem.conv1"),
    ],
)
def test_the_first_convolution_is_found_without_computing(config, name):
    found = first_convolution(build_weightless(load_config(config).model))
    assert found is not None and found[0] == name


def test_configs_for_colours_and_for_two_energies_agree():
    for config in (DEMO, RAW):
        cfg = load_config(config)
        check_input_channels(cfg, build_weightless(cfg.model))


def test_one_error_names_all_that_is_for_another_number_of_channels():
    cfg = load_config(DEMO, ["dataloader.reader.channels=2", "dataloader.reader.window=[0,4095]"])
    with pytest.raises(UserError) as raised:
        check_input_channels(cfg, build_weightless(cfg.model))
    assert "images have 2 channels" in raised.value.message and "stem.conv1 takes 3" in raised.value.message
    for setting in ("model.backbone.bottom_up.stem.in_channels=2", "model.pixel_mean='[..., ...]'", "model.pixel_std="):
        assert setting in raised.value.fix
    cfg = load_config(RAW, ["dataloader.reader.channels=4"])  # the model follows, the statistics can't
    with pytest.raises(UserError, match=r"channels\), but model\.pixel_mean is for 2, model\.pixel_std is for 2"):
        check_input_channels(cfg, build_weightless(cfg.model))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    model = instantiate(load_config(DEMO).model)
    path = tmp_path_factory.mktemp("weights") / "colours.pth"
    torch.save({"model": model.state_dict()}, path)
    return model, str(path)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_pretrained_filters_answer_alike_where_all_channels_are_equal(colours, channels):
    pretrained, path = colours
    cfg = load_config(RAW, [f"model.backbone.bottom_up.stem.in_channels={channels}", "dataloader.reader.channels=2"])
    model = instantiate(cfg.model)
    Checkpointer(model).load(path)
    own, theirs = (first_convolution(one)[1].weight for one in (model, pretrained))
    assert own.shape[1] == channels
    used = [channel % 3 for channel in range(channels)] if channels > 1 else [0, 1, 2]
    expected = theirs[:, used].sum(1) * (3 / channels if channels > 1 else 1)
    torch.testing.assert_close(own.sum(1), expected)
    # all else is as it was learned
    torch.testing.assert_close(model.backbone.fpn_output3.weight, pretrained.backbone.fpn_output3.weight)


def test_weights_for_other_channels_are_refused_with_both_numbers(colours, tmp_path):
    two = instantiate(load_config(RAW).model)
    torch.save({"model": two.state_dict()}, tmp_path / "two.pth")
    with pytest.raises(UserError, match=r"two\.pth is for images of 2 channels, the model for 3"):
        Checkpointer(instantiate(load_config(DEMO).model)).load(str(tmp_path / "two.pth"))
    checkpointer = Checkpointer(two)
    checkpointer.must_fit = True  # evaluation: nothing would learn what the adapted filters lack
    with pytest.raises(UserError, match=r"colours\.pth is for images of 3 channels, the model for 2"):
        checkpointer.load(colours[1])
