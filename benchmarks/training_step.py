"""A training step of our trainer beside detectron2's SimpleTrainer: same weights, same batches."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.engine import SimpleTrainer
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, MaskRCNNConvUpsampleHead, StandardROIHeads
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from benchmarks.pairs import Comparison, compare
from benchmarks.r50 import EDGE, LONGEST, batches_of, generate_images, lively_model, r50_config
from benchmarks.sparse_rcnn_step import spread_boxes
from benchmarks.straightforward_sparse_rcnn import straightforward
from xray_lazy.config import get_config
from xray_lazy.data.synthetic.generate import generate_set
from xray_lazy.engine.experiment import build_model, build_optimizer, build_trainer
from xray_lazy.modeling.step_numbers import StepStorage

STEPS, PAIRS = 3, 5


def compare_all(folder: Path) -> list[Comparison]:
    return [demo_step(folder), *r50_steps(folder)]


def demo_step(folder: Path) -> Comparison:
    generate_set(folder / "demo", "demo", {"train": 8, "val": 4, "test": 0}, classes=("gun", "knife"))
    overrides = [f"dataloader.root={folder / 'demo'}", f"train.output_dir={folder / 'run'}", "train.eval_period=0"]
    overrides += ["train.clip_gradients.enabled=False"]  # detectron2's loop has none
    overrides += ["model.roi_heads.num_classes=2", "dataloader.train.num_workers=0", "writers.wandb.mode=disabled"]
    cfg = get_config("xray/mask_rcnn_r18_demo.py", overrides)
    name = "training step, Mask R-CNN R18 320x192, batch 4 (detectron2 SimpleTrainer)"
    return _compare(name, cfg, build_model(cfg, "cpu"), plain_detectron2(cfg), batches_of(cfg, STEPS))


def r50_steps(folder: Path) -> list[Comparison]:
    """One image of 800x450; Sparse R-CNN's peer is the straightforward one, in detectron2's loop."""
    generate_images(folder / "r50")
    mask = r50_config("xray/mask_rcnn_r50.py", folder / "r50")
    sparse, plain_sparse = (r50_config("xray/sparse_rcnn_r50.py", folder / "r50") for _ in range(2))
    plain_sparse.model = straightforward(plain_sparse.model)
    size, peer = f"within {LONGEST}x{EDGE}", "detectron2 SimpleTrainer"
    return [
        _compare(f"training step, Mask R-CNN R50 {size} ({peer})", mask, lively_model(mask), plain_detectron2(mask),
                 batches_of(mask, 1)),
        _compare(f"training step, Sparse R-CNN R50 {size} ({peer}, straightforward model)", sparse,
                 spread_boxes(build_model(sparse, "cpu")), plain_sparse, batches_of(sparse, 1)),
    ]  # fmt: skip


def plain_detectron2(cfg: DictConfig) -> DictConfig:
    """The config of the same Mask R-CNN of detectron2's own parts."""
    plain = copy.deepcopy(cfg)
    heads = plain.model.roi_heads
    plain.model.proposal_generator._target_, heads._target_ = RPN, StandardROIHeads
    plain.model.proposal_generator.anchor_generator._target_ = DefaultAnchorGenerator
    heads.box_pooler._target_ = heads.mask_pooler._target_ = ROIPooler
    heads.box_predictor._target_, heads.mask_head._target_ = FastRCNNOutputLayers, MaskRCNNConvUpsampleHead
    del plain.model.proposal_generator["seed"], heads["seed"]
    return plain


def our_steps(cfg: DictConfig, model: nn.Module, batches: list[list[dict]]) -> Callable[[], None]:
    """A step of our trainer for each of the batches."""
    trainer = build_trainer(cfg, model, "cpu")
    trainer.max_iter = 10**6

    def steps() -> None:
        trainer.model.train()
        trainer._batches = iter(batches)
        with StepStorage(0) as trainer.storage:
            for _ in batches:
                trainer.run_step()

    return steps


def detectron2_steps(cfg: DictConfig, model: nn.Module, batches: list[list[dict]]) -> Callable[[], None]:
    """A step of detectron2's loop for each of the batches."""
    trainer = SimpleTrainer(model.train(), itertools.cycle(batches), build_optimizer(cfg, model))

    def steps() -> None:
        with EventStorage(0) as trainer.storage:
            for _ in batches:
                trainer.run_step()

    return steps


def _compare(name: str, cfg: DictConfig, model: nn.Module, plain: DictConfig, batches: list) -> Comparison:
    torch.manual_seed(0)
    theirs = instantiate(plain.model)
    theirs.load_state_dict(model.state_dict())
    ours, theirs = our_steps(cfg, model, batches), detectron2_steps(plain, theirs, batches)
    return compare(name, "step", ours, theirs, units=len(batches), pairs=PAIRS)
