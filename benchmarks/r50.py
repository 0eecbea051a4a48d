"""The R50 models of `configs/xray` for benchmarks: generated images, config and weights at a size for a CPU."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.utils.hooks import RemovableHandle

from xray_lazy.config import get_config
from xray_lazy.data.synthetic.generate import generate_set

IMAGES = 2  # of 1920x1080
EDGE, LONGEST = 480, 800  # pixels of an image for the network: 800x450
# standard deviations of outputs: with those of random weights all scores and boxes would be alike, or extreme
SPREAD = {
    "proposal_generator.rpn_head.objectness_logits": 1.0,
    "proposal_generator.rpn_head.anchor_deltas": 0.2,
    "roi_heads.box_predictor.cls_score": 2.0,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_head.predictor": 2.0,
}


def r50_config(config: str, folder: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """A config for the set that `generate_images` writes into `folder`, one image a step, without evaluation."""
    own = [f"dataloader.root={folder}", f"train.output_dir={folder / 'run'}", "train.eval_period=0"]
    own += ["dataloader.train.num_workers=0", "dataloader.train.total_batch_size=1", "writers.wandb.mode=disabled"]
    own += ["train.clip_gradients.enabled=False", "optimizer.lr=1e-5"]  # the peers' loops clip nothing
    cfg = get_config(config, [*own, *overrides])
    # resize and flip, as the peers do
    cfg.dataloader.train.mapper.augmentations = cfg.dataloader.train.mapper.augmentations[:2]
    cfg.dataloader.train.sampler.balance, cfg.dataloader.train.mapper.mixing = [], []
    for mapper in (cfg.dataloader.train.mapper, cfg.dataloader.test.mapper):
        mapper.augmentations[0].short_edge_length, mapper.augmentations[0].max_size = EDGE, LONGEST
    return cfg


def generate_images(folder: Path) -> list[np.ndarray]:
    """Write a set of the astrophysics scanner; returns its images, BGR."""
    generate_set(folder, "astrophysics", {"train": IMAGES, "val": 0, "test": 0})
    return [cv2.imread(str(path)) for path in sorted((folder / "images").rglob("*.jpg"))]


def batches_of(cfg: DictConfig, count: int) -> list[list[dict]]:
    """The first batches of the training loader."""
    return list(itertools.islice(instantiate(cfg.dataloader.train).batches(0), count))


@torch.no_grad()
def lively_model(cfg: DictConfig) -> nn.Module:
    """The model of a Mask R-CNN config with random weights that find 100 items in an image, the same at each call."""
    torch.manual_seed(0)
    model = instantiate(cfg.model).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("conv3.norm.weight"):  # frozen norms would let the activations double with each block
            buffer.fill_(0.2)
    hooks = [_spread(model.get_submodule(name), deviation) for name, deviation in SPREAD.items()]
    model([{"image": torch.randint(256, (3, EDGE // 2, LONGEST // 2))}])
    for hook in hooks:
        hook.remove()
    return model.train()


def _spread(layer: nn.Module, deviation: float) -> RemovableHandle:
    """Change the weights so that the outputs of each channel have a mean of 0, and all of them this deviation."""

    def change(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        factor = deviation / output.std()
        mean = output.transpose(0, 1).flatten(1).mean(1)
        layer.weight.mul_(factor)
        layer.bias.sub_(mean).mul_(factor)
        return layer.forward(*inputs)

    return layer.register_forward_hook(change)
