"""A model for use after training: from its folder or config, complete, with its classes' names."""

import locale
import sys

import pytest
import torch

from tests.engine.conftest import CONFIG
from tests.lively_model import build_lively_model
from xray_lazy.config import load_config, save_config
from xray_lazy.engine.trained_model import load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.utils.atomic_file import write_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    cfg = load_config(CONFIG)
    save_config(cfg, folder / "config.yaml")
    torch.save({"model": build_lively_model(cfg).state_dict(), "iteration": 7}, folder / "model_final.pth")
    return folder


def test_weights_for_other_classes_are_refused(folder):
    with pytest.raises(UserError, match=r"shapes of \d weights differ: .*\.cls_score\.weight 3x16 -> 5x16") as error:
        load_trained_model(folder, overrides=["model.roi_heads.num_classes=4"], device="cpu")
    assert "--weights" in error.value.fix and "train." not in error.value.fix


def test_a_model_that_can_not_be_built_is_told_by_its_innermost_node(folder):
    with pytest.raises(UserError, match=r"^model.roi_heads.box_pooler: RegionPooler\(.*Unknown pooler type: none"):
        load_trained_model(folder, overrides=["model.roi_heads.box_pooler.pooler_type=none"], device="cpu")


def test_an_override_that_plays_no_part_is_refused(folder):
    with pytest.raises(UserError, match=r"optimizer\.lr plays no part"):
        load_trained_model(folder, overrides=["optimizer.lr=1"], device="cpu")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.roi_heads.box_predictor.test_nms_thresh=7", "7.0 is more than 1"),
        ("dataloader.test.mapper.augmentations.0.short_edge_length=0", "0 is less than 1"),
    ],
)
def test_an_override_that_can_not_be_meant_is_refused(folder, override, message):
    with pytest.raises(UserError, match=message) as error:
        load_trained_model(folder, overrides=[override], device="cpu")
    assert override.split("=")[0].lstrip("+").rsplit(".", 3)[0] in error.value.message and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~model", "model: the config has no such node"),
        ("++model=null", "model: the config has no such node"),
        ("++model=[1]", r"model: it is \[1\], without a _target_"),
        ("~dataloader.test.mapper", "dataloader.test.mapper: TestLoader needs the argument mapper"),
        ("~dataloader", "dataloader.test.mapper: the config has no such node"),
    ],
)
def test_a_config_without_what_is_used_is_refused(folder, override, message):
    with pytest.raises(UserError, match=message) as error:
        load_trained_model(folder, overrides=[override], device="cpu")
    assert error.value.fix


def test_what_is_neither_run_nor_config_is_told_so_before_weights_are_asked_for(tmp_path):
    (tmp_path / "text.png").touch()
    with pytest.raises(UserError, match=r"text\.png is neither an output folder nor a config"):
        load_trained_model(tmp_path / "text.png")
    with pytest.raises(UserError, match="which weights for"):
        load_trained_model(CONFIG)
    with pytest.raises(UserError, match="can't load the checkpoint") as error:
        load_trained_model(CONFIG, "http://127.0.0.1:9/weights.pth", device="cpu")
    assert "--weights" in error.value.fix


@pytest.mark.skipif(sys.flags.utf8_mode, reason="Python reads UTF-8 in every locale here")
def test_names_of_classes_are_read_in_every_locale(folder):
    write_json(folder / "run.json", {"datasets": {"train": {"classes": ["Schlagstöcke", "刀"]}}})
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        assert load_trained_model(folder, device="cpu").class_names == ("Schlagstöcke", "刀")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
        (folder / "run.json").unlink()
