"""The largest batch that a GPU can train."""

import copy
import gc
import logging
from collections.abc import Callable

import torch
from omegaconf import DictConfig

from xray_lazy.engine.experiment import build_model, build_trainer, load_initial_weights
from xray_lazy.errors import UserError
from xray_lazy.utils.wording import counted

logger = logging.getLogger(__name__)


def find_batch_size(cfg: DictConfig, steps: int = 10, margin: float = 0.1, limit: int = 512) -> int:
    """The most images per step that fit the present GPU, found by training some steps with each candidate.

    Args:
        cfg: the checked config; `train.accumulate` parts a batch as in training.
        steps: of training with each candidate: images differ in size and in what they show.
        margin: share of the free memory that has to stay free, for images that need more than those seen.
        limit: no more images are tried.

    Raises:
        UserError: not even the smallest batch fits.
    """
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((1 - margin) * free / total)
    parts = cfg.train.accumulate
    best = largest_that_fits(lambda size: _fits(cfg, size * parts, steps), limit // parts)
    if not best:
        raise UserError(
            f"not even {parts} images fit into {free / 2**30:.1f} GiB of free GPU memory",
            "use train.amp.enabled=True, smaller images or a smaller model",
        )
    return best * parts


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` for which `fits` holds; 0 where it holds for none.

    It is assumed to hold for all numbers below one that fits. It is doubled until it fails, then bisected.
    """
    best, failed = 0, limit + 1
    while failed - best > 1:
        doubled = max(2 * best, 1)
        candidate = doubled if doubled < failed and failed == limit + 1 else (best + failed) // 2
        if fits(candidate):
            best = candidate
        else:
            failed = candidate
    return best


def train_briefly(cfg: DictConfig, device: str, batch_size: int, steps: int) -> None:
    """Train a new model for some steps, without hooks, writers and files.

    Raises:
        torch.OutOfMemoryError: the batch does not fit.
    """
    cfg = copy.deepcopy(cfg)
    cfg.hooks, cfg.writers = {}, {}
    cfg.dataloader.train.total_batch_size = batch_size
    # only the memory is of interest: weights stay as they are, and losses may be what they like
    cfg.optimizer.lr, cfg.train.max_skipped_steps = 0.0, steps
    trainer = build_trainer(cfg, build_model(cfg, device), device)
    load_initial_weights(cfg, trainer.checkpointer)
    trainer.train(0, steps)


def _fits(cfg: DictConfig, batch_size: int, steps: int) -> bool:
    torch.cuda.reset_peak_memory_stats()
    try:
        train_briefly(cfg, "cuda", batch_size, steps)
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    # the error's traceback held the tensors until here
    gc.collect()
    peak = torch.cuda.max_memory_reserved() / 2**30
    torch.cuda.empty_cache()
    logger.info("%s: %s", counted(batch_size, "image"), f"fit, with {peak:.1f} GiB" if fits else "out of memory")
    return fits
