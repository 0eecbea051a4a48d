"""A training step of our trainer beside detectron2's SimpleTrainer: same model, same batches."""

import itertools
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage

from benchmarks.pairs import Comparison, compare
from xray_lazy.config import get_config
from xray_lazy.data.synthetic.generate import generate_set
from xray_lazy.engine.experiment import build_optimizer, build_trainer

STEPS = 3


def compare_all(folder: Path) -> list[Comparison]:
    generate_set(folder / "demo", "demo", {"train": 8, "val": 4, "test": 0}, classes=("gun", "knife"))
    overrides = [f"dataloader.root={folder / 'demo'}", f"train.output_dir={folder / 'run'}", "train.eval_period=0"]
    overrides += ["train.clip_gradients.enabled=False"]  # detectron2's loop has none
    overrides += ["model.roi_heads.num_classes=2", "dataloader.train.num_workers=0", "writers.wandb.mode=disabled"]
    cfg = get_config("xray/mask_rcnn_r18_demo.py", overrides)
    batches = list(itertools.islice(instantiate(cfg.dataloader.train).batches(0), STEPS))

    ours = build_trainer(cfg, instantiate(cfg.model), "cpu")
    ours.model.train()
    ours.max_iter = 10**6
    model = instantiate(cfg.model)
    theirs = SimpleTrainer(model, itertools.cycle(batches), build_optimizer(cfg, model))

    def our_steps() -> None:
        ours._batches = iter(batches)
        with EventStorage(0) as ours.storage:
            for _ in range(STEPS):
                ours.run_step()

    def their_steps() -> None:
        with EventStorage(0) as theirs.storage:
            for _ in range(STEPS):
                theirs.run_step()

    torch.manual_seed(0)
    return [compare("training step, Mask R-CNN R18 320x192, batch 4 (detectron2 SimpleTrainer)", "step",
                    our_steps, their_steps, units=STEPS, pairs=5)]  # fmt: skip
