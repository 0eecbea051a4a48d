"""Threat projection and background mixing in an experiment: checked before, trained with, the same after a resume."""

import itertools
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.utils.events import EventStorage

from tests.data.augmentation.conftest import write_bags
from tests.engine.conftest import CONFIG
from xray_lazy.config import get_config, load_config
from xray_lazy.data.augmentation.quarter_turns import RandomQuarterTurn
from xray_lazy.data.augmentation.recording import RandomJpeg, RandomScannerResponse
from xray_lazy.data.augmentation.threat_cutting import cut_dataset
from xray_lazy.data.augmentation.whole_item_crop import RandomWholeItemCrop
from xray_lazy.data.datasets import load_datasets
from xray_lazy.engine import experiment
from xray_lazy.engine.preflight.preflight import check_experiment
from xray_lazy.engine.preflight.trial_step import try_images


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A set and its library."""
    folder = write_bags(tmp_path_factory.mktemp("mixing") / "bags")
    source = {"json_file": str(folder / "set.json"), "image_root": str(folder / "images"), "name": "bags"}
    cut_dataset(load_datasets(source), folder / "library")
    return source, folder / "library"


def experiment_with(bags, library):
    cfg = load_config(CONFIG, [])
    for loader in (cfg.dataloader.train, cfg.dataloader.test):
        loader.dataset.names = bags[0]
        loader.mapper.augmentations[0].max_size = 96
    parts = get_config("common/data/mixing.py")
    parts.threat_projection.update(library=str(library), empty=1.0, occupied=1.0)
    parts.background_mixing.probability = 1.0
    cfg.dataloader.train.mapper.mixing = [parts.threat_projection, parts.background_mixing]
    return cfg


def test_an_experiment_trains_with_projected_items(bags):
    cfg = experiment_with(bags, bags[1])
    assert check_experiment(cfg, world_size=1) == []
    model = experiment.build_model(cfg, "cpu").train()
    loader = instantiate(cfg.dataloader.train)
    batch = next(loader.batches(start_iteration=0))
    annotated = {record["file_name"]: len(record["annotations"]) for record in loader.dataset}
    assert sum(len(sample["instances"]) for sample in batch) > sum(annotated[s["file_name"]] for s in batch)
    with EventStorage():
        losses = model(batch)
    assert all(torch.isfinite(loss) for loss in losses.values()) and losses["loss_mask"] > 0


def test_a_resumed_training_sees_the_same_projections(bags):
    cfg = experiment_with(bags, bags[1])
    whole = list(itertools.islice(instantiate(cfg.dataloader.train).batches(0), 4))
    resumed = list(itertools.islice(instantiate(cfg.dataloader.train).batches(2), 2))
    for before, after in zip(whole[2:], resumed, strict=True):
        for one, two in zip(before, after, strict=True):
            assert torch.equal(one["image"], two["image"])
            assert torch.equal(one["instances"].gt_boxes.tensor, two["instances"].gt_boxes.tensor)


def test_a_library_that_cannot_be_used_is_told_before_training(bags, tmp_path):
    (fault, *_) = check_experiment(experiment_with(bags, tmp_path / "nowhere"), world_size=1)
    assert "no threat library" in str(fault) and "dataloader.train.mapper" in str(fault)
    cfg = experiment_with(bags, bags[1])
    cfg.dataloader.train.mapper.mixing[0].names = {"gun": "pistol"}
    (fault,) = try_images(cfg)
    assert fault.key == "dataloader.train.mapper"
    assert "items of class pistol, which the training set lacks" in str(fault)


def test_parts_can_be_named_on_the_command_line(bags):
    part = "{_target_: xray_lazy.data.augmentation.threat_projection.ThreatProjection, library: LIBRARY, empty: 1.0}"
    override = f"dataloader.train.mapper.mixing=[{part.replace('LIBRARY', str(bags[1]))}]"
    cfg = load_config(CONFIG, [override])
    cfg.dataloader.train.dataset.names = bags[0]
    (projection,) = instantiate(cfg.dataloader.train.mapper).mixing
    assert Path(projection.library) == bags[1] and projection.empty == 1.0


def test_an_experiment_trains_on_mosaics_with_the_augmentations_of_scans(bags):
    cfg = experiment_with(bags, bags[1])
    parts = get_config("common/data/mixing.py")
    parts.mosaic.probability = 1.0
    cfg.dataloader.train.mapper.mixing = [parts.mosaic]
    cfg.dataloader.train.mapper.augmentations = [
        L(RandomWholeItemCrop)(sides=(0.6, 1.0), tries=10),
        L(T.ResizeShortestEdge)(short_edge_length=(48, 64), max_size=96, sample_style="choice"),
        L(RandomQuarterTurn)(turns=(0, 2)),
        L(RandomScannerResponse)(),
        L(RandomJpeg)(image_format="${dataloader.train.mapper.image_format}"),
    ]
    assert check_experiment(cfg, world_size=1) == []
    batches = [list(itertools.islice(instantiate(cfg.dataloader.train).batches(start), 3 - start)) for start in (0, 1)]
    for before, after in zip(batches[0][1:], batches[1], strict=True):
        assert all(torch.equal(one["image"], two["image"]) for one, two in zip(before, after, strict=True))
