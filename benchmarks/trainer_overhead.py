"""What trainer, hooks and writers of the default config cost over the bare loop of forward, backward and step."""

import itertools
from pathlib import Path

import torch
from detectron2.config import instantiate
from torch import nn

from benchmarks.pairs import Comparison, compare
from xray_lazy.config import get_config
from xray_lazy.data.synthetic.generate import generate_set
from xray_lazy.engine.experiment import build_optimizer, build_trainer, record_start
from xray_lazy.modeling.step_numbers import StepStorage

STEPS = 20  # as many as lie between two writes


class FiftyMilliseconds(nn.Module):
    """Convolutions whose step takes about 50 ms on a CPU core, with the losses' names of Mask R-CNN."""

    NAMES = ("loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask")

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(32, 32, 3, padding=1) for _ in range(6)))
        self.register_buffer("picture", torch.randn(1, 32, 104, 104), persistent=False)

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        features = self.layers(self.image)
        return {name: features[:, place].square().mean() for place, name in enumerate(self.NAMES)}


def compare_all(folder: Path) -> list[Comparison]:
    generate_set(folder / "demo", "demo", {"train": 8, "val": 4, "test": 0}, classes=("gun", "knife"))
    overrides = [f"dataloader.root={folder / 'demo'}", f"train.output_dir={folder / 'run'}", "train.max_iter=1000000"]
    overrides += ["dataloader.train.num_workers=0", "writers.wandb.mode=offline", "train.checkpointer.period=1000000"]
    overrides += ["train.eval_period=0", "train.clip_gradients.enabled=False"]  # which is the default; the demo's clip
    cfg = get_config("xray/mask_rcnn_r18_demo.py", overrides)
    batch = next(iter(instantiate(cfg.dataloader.train).batches(0)))
    torch.manual_seed(0)
    ours = build_trainer(cfg, FiftyMilliseconds(), "cpu")
    model = FiftyMilliseconds()
    optimizer = build_optimizer(cfg, model)
    (folder / "run").mkdir()
    record_start(cfg, overrides, False, ours, 0)

    ours.max_iter, ours.start_iter, ours.iter = 10**6, 0, 0
    ours.model.train()
    ours._batches = itertools.repeat(batch)

    def our_step() -> None:  # the body of Trainer.train
        ours.before_step()
        ours.run_step()
        ours.iterations_done = ours.iter + 1
        ours.after_step()
        ours.iter += 1

    def bare_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = sum(model([batch]).values())
        loss.backward()
        optimizer.step()
        loss.item()  # any loop looks at its loss

    name = "trainer with its default hooks and writers, model of 50 ms (bare loop)"
    with StepStorage(0) as ours.storage:
        ours.before_train()
        comparison = compare(name, "step", our_step, bare_step, units=1, pairs=31, calls=STEPS)
    for writer in ours.writers.values():
        writer.close()
    return [comparison]
