"""Tiny experiments for a GPU, and steps of training with them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from torch import nn

from xray_lazy.config import load_config
from xray_lazy.data.memory.batch_memory import to_device
from xray_lazy.engine.precision import Precision

HERE = Path(__file__).parent
EXPERIMENTS = {
    "mask_rcnn": str(HERE.parent / "engine" / "tiny.py"),
    "sparse_rcnn": str(HERE / "tiny_sparse_rcnn.py"),
}
# as many as there are: which of them are drawn depends on the device's rounding of scores
DRAW_ALL = {"proposal_generator": 100_000, "roi_heads": 2_000}


def quiet(folder: Path, device: str) -> list[str]:
    """Overrides of a run that leaves checkpoints, metrics and evaluations."""
    return [
        f"train.output_dir={folder}",
        f"train.device={device}",
        "~hooks.prediction_pictures",
        "~hooks.evaluation_media",
        "~writers.tensorboard",
        "~writers.wandb",
    ]


def drawing_all(config: str) -> list[str]:
    """Overrides with which a Mask R-CNN trains on all anchors and proposals; a Sparse R-CNN always does."""
    if config == EXPERIMENTS["sparse_rcnn"]:
        return []
    return [f"model.{part}.batch_size_per_image={count}" for part, count in DRAW_ALL.items()]


def built(config: str, device: str, overrides: Sequence[str] = ()) -> tuple[nn.Module, list[dict]]:
    """The model of a config in training mode, the same on every device, and its first batch there."""
    cfg = load_config(config, [f"train.device={device}", *overrides])
    torch.manual_seed(0)
    model = instantiate(cfg.model).to(device)
    batch = next(instantiate(cfg.dataloader.train).batches(0))
    return model, to_device(batch, torch.device(device))


def losses_and_gradients(
    model: nn.Module, batch: list[dict], precision: Precision | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Of one forward and backward pass, by name, on the CPU."""
    precision = precision or Precision("cpu")
    with EventStorage(0), precision.autocast():
        losses = model(batch)
    sum(losses.values()).backward()
    gradients = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.detach().float().cpu() for name, loss in losses.items()}, gradients
