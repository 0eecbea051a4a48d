"""What the config says about the parts of a model reaches the model."""

import pytest
import torch

from tests.engine.conftest import CONFIG
from xray_lazy.config import load_config
from xray_lazy.engine.checkpoint import Checkpointer
from xray_lazy.engine.experiment import build_model, build_optimizer, load_initial_weights
from xray_lazy.errors import UserError

FREEZE = "train.freeze=[backbone.bottom_up.stem]"


def test_frozen_parts_are_not_in_the_optimizer_and_keep_their_statistics():
    cfg = load_config(CONFIG, ["train.freeze=[backbone.bottom_up.stem,backbone.bottom_up.res2]"])
    model = build_model(cfg, "cpu").train()
    bottom_up = model.backbone.bottom_up
    assert not any(m.training for m in (*bottom_up.stem.conv1.children(), *bottom_up.res2[0].conv1.children()))
    assert bottom_up.res3[0].conv1.norm.training
    trained = {p for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    assert not trained & {*bottom_up.stem.parameters(), *bottom_up.res2.parameters()}
    assert trained >= {*bottom_up.res3.parameters()}


@pytest.mark.parametrize(
    ("overrides", "is_told"),
    [([FREEZE], True), ([], False), ([FREEZE, "train.init_checkpoint=weights.pth"], False)],
    ids=["frozen", "nothing frozen", "weights"],
)
def test_parts_that_would_stay_random_are_told(overrides, is_told, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(CONFIG, overrides)
    model = build_model(cfg, "cpu")
    torch.save({"model": model.state_dict()}, "weights.pth")
    load_initial_weights(cfg, Checkpointer(model))
    assert any("keeps random weights in backbone.bottom_up.stem" in one for one in caplog.messages) == is_told


def test_layer_decay_is_one_switch_for_resnets():
    cfg = load_config(CONFIG, ["optimizer.params.layer_decay=0.5", "optimizer.lr=1.0"])
    groups = build_optimizer(cfg, build_model(cfg, "cpu")).param_groups
    rates = {group["name"]: group["lr"] for group in groups}
    layers = {
        f"backbone.bottom_up.{name}": 0.5**n for n, name in enumerate(["res5", "res4", "res3", "res2", "stem"], 1)
    }
    assert rates == {"": 1.0, **layers}


@pytest.mark.parametrize("override", ["train.freeze=[backbone.bottom_up.res7]", "train.compile.parts=[neck]"])
def test_a_part_that_the_model_has_not_is_an_error_that_names_the_key(override):
    with pytest.raises(UserError, match=override.split("=")[0].replace(".", r"\.")):
        build_model(load_config(CONFIG, [override, "train.compile.enabled=True"]), "cpu")
