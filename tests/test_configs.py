"""Every experiment file: short, free of faults, saved and loaded again, and buildable."""

from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from xray_lazy.config import check_config, config_names, get_config, load_config, save_config
from xray_lazy.engine.experiment import build_optimizer

ROOT = Path(__file__).parent.parent
NAMES = config_names()


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_has_no_faults_and_is_saved_and_loaded_unchanged(name, tmp_path):
    cfg = get_config(name)
    assert check_config(cfg) == []
    save_config(cfg, tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml")
    save_config(again, tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "config.yaml").read_text()
    assert OmegaConf.to_container(again)["train"]["max_iter"] == cfg.train.max_iter


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_builds_its_model_optimizer_and_hooks(name):
    cfg = get_config(name)
    model = instantiate(cfg.model)
    groups = build_optimizer(cfg, model).param_groups
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in model.parameters())
    if "roi_heads" in cfg.model:
        predictors = model.roi_heads.box_predictor
        of_stages = predictors if isinstance(predictors, torch.nn.ModuleList) else [predictors]
        assert {predictor.num_classes for predictor in of_stages} == {model.roi_heads.num_classes}
    for hook in cfg.hooks.values():
        instantiate(hook)


EXPERIMENTS = [*(ROOT / "configs" / "xray").glob("*.py"), *ROOT.glob("projects/*/configs/*.py")]


@pytest.mark.parametrize("path", sorted(EXPERIMENTS), ids=lambda path: path.stem)
def test_an_experiment_file_is_short(path):
    assert len(path.read_text().splitlines()) <= 40


def test_the_mission_config_says_what_was_agreed():
    cfg = get_config("xray/mask_rcnn_r50.py", ["train.max_iter=5000"])
    assert cfg.dataloader.train.dataset.names == "xray_astrophysics_train"
    assert cfg.dataloader.test.dataset.names == "xray_astrophysics_val"
    assert cfg.dataloader.train.total_batch_size == 8 and cfg.optimizer.lr == 0.0008579
    assert (cfg.train.max_iter, cfg.train.eval_period) == (5000, 500)
    assert cfg.model.roi_heads.num_classes == 13 and cfg.model.roi_heads.batch_size_per_image == 128
    assert "mask_rcnn_R_50_FPN" in cfg.train.init_checkpoint


def test_the_learning_rate_follows_the_batch_where_that_is_switched_on():
    cfg = get_config("xray/mask_rcnn_r18_demo.py", ["train.scale_lr.enabled=True", "train.scale_lr.batch_size=2"])
    groups = build_optimizer(cfg, instantiate(cfg.model)).param_groups
    assert {group["lr"] for group in groups} == {cfg.optimizer.lr * 4 / 2}
