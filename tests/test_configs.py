"""Every experiment file: short, free of faults, saved and loaded again, and buildable."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from xray_lazy.config import check_config, config_names, get_config, load_config, save_config
from xray_lazy.config.keys import read, walk
from xray_lazy.engine.experiment import build_optimizer
from xray_lazy.engine.preflight.setting_limits import allowed_values, check_settings
from xray_lazy.engine.weights.weightless import build_weightless

ROOT = Path(__file__).parent.parent
NAMES = config_names()
PARTS = ("model", "dataloader", "hooks", "optimizer", "lr_multiplier", "test")
# what their classes refuse themselves, and a list that may be empty by -1
OF_MIXING = tuple(
    f"mixing.0.{name}" for name in ("probability", "middle", "scale", "least_visible", "patches", "size", "strength")
)
OF_RESPONSE = tuple(f"augmentations.3.{name}" for name in ("gain", "attenuation", "channels", "noise"))
LIMITED_BY_CLASS = (
    "hooks.ema.decay",
    "proposal_generator.head.conv_dims",
    ".aspect_ratios",
    ".thresholds",
    "balance.0.threshold",
    *OF_MIXING,
    *OF_RESPONSE,
)


def numbers_without_range(cfg):
    for key, container, part in walk(cfg):
        whole_key = re.sub(r"(\.\d+)+$", "", key)
        is_own = key.startswith(PARTS) and not OmegaConf.is_interpolation(container, part)
        if is_own and type(read(container, part)) in (int, float) and allowed_values(whole_key) is None:
            yield whole_key


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_has_no_faults_knows_its_ranges_and_is_saved_and_loaded_unchanged(name, tmp_path):
    cfg = get_config(name)
    assert check_config(cfg) == [] and check_settings(cfg) == []
    assert [key for key in numbers_without_range(cfg) if not key.endswith(LIMITED_BY_CLASS)] == []
    save_config(cfg, tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml")
    save_config(again, tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "config.yaml").read_text()
    assert OmegaConf.to_container(again)["train"]["max_iter"] == cfg.train.max_iter


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_builds_its_model_optimizer_and_hooks(name):
    cfg = get_config(name)
    model = build_weightless(cfg.model)
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
    assert cfg.dataloader.train.mapper.augmentations[0].max_size == 1333


def test_the_learning_rate_follows_the_batch_where_that_is_switched_on():
    cfg = get_config("xray/mask_rcnn_r18_demo.py", ["train.scale_lr.enabled=True", "train.scale_lr.batch_size=2"])
    groups = build_optimizer(cfg, instantiate(cfg.model)).param_groups
    assert {group["lr"] for group in groups} == {cfg.optimizer.lr * 4 / 2}


@pytest.mark.parametrize(("recipe", "mixing"), [("xray_few_scans", "Mosaic"), ("xray_few_epochs", "BackgroundMixing")])
def test_recipes_of_augmentation_are_built(recipe, mixing):
    names = ("augmentations", "mixing", "balance")
    parts = LazyConfig.load(str(ROOT / "configs" / "common" / "data" / f"{recipe}.py"), names)
    built = [instantiate(part) for of_name in parts for part in of_name]
    assert [type(part).__name__ for part in built[:3]] == ["ResizeShortestEdge", "RandomFlip", "RandomFlip"]
    assert [type(part).__name__ for part in built[3:]] == ["RandomScannerResponse", mixing, "RepeatFactors"]


@pytest.mark.parametrize(
    ("config", "is_augmented"),
    [
        ("xray/mask_rcnn_r50.py", True),
        ("xray/sparse_rcnn_r50.py", True),
        ("benchmarks/dvxray_faster_rcnn_r50.py", True),
        ("benchmarks/pidray_mask_rcnn_r101.py", False),  # with the settings of its published figures
        ("xray/mask_rcnn_r18_raw_demo.py", False),  # of other than 8-bit colours
        ("projects/sparse_rcnn/sparse_rcnn_r50_100pro_3x.py", False),
    ],
)
def test_scans_are_augmented_by_the_recipe_but_for_demos_and_published_settings(config, is_augmented):
    train = get_config(config).dataloader.train
    parts = [*train.mapper.augmentations, *train.mapper.mixing, *train.sampler.balance]
    names = [type(instantiate(part)).__name__ for part in parts]
    recipe = ["RandomFlip", "RandomScannerResponse", "BackgroundMixing", "RepeatFactors"]
    assert names == ["ResizeShortestEdge", "RandomFlip", *(recipe if is_augmented else [])]
