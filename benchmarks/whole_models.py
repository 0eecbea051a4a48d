"""Our Mask R-CNN R50 beside torchvision's and, where it is installed, mayaku's: a training step, and images to masks.

All have the same weights, settings and batches; see `peers_mask_rcnn`.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from benchmarks.inference import untrained
from benchmarks.pairs import Comparison, compare
from benchmarks.peers_mask_rcnn import SAME, Peer, mayaku_peer, torchvision_peer
from benchmarks.r50 import EDGE, LONGEST, batches_of, generate_images, lively_model, r50_config
from benchmarks.training_step import our_steps
from xray_lazy.prediction.detector import TrainedDetector
from xray_lazy.prediction.predictor import Predictor

PAIRS = 5
MODEL = f"Mask R-CNN R50 within {LONGEST}x{EDGE}"


def compare_all(folder: Path) -> list[Comparison]:
    images = generate_images(folder / "r50")
    cfg = r50_config("xray/mask_rcnn_r50.py", folder / "r50", SAME)
    model = lively_model(cfg)
    results = []
    for build in (torchvision_peer, mayaku_peer):
        if peer := build(cfg, model, folder):
            results += [_detection(cfg, copy.deepcopy(model), peer, images)]
            results += [_training_step(cfg, copy.deepcopy(model), peer)]
    return results


def _training_step(cfg: DictConfig, model: nn.Module, peer: Peer) -> Comparison:
    batches = batches_of(cfg, 1)
    ours = our_steps(cfg, model, batches)
    return compare(f"training step, {MODEL} ({peer.name})", "step", ours, peer.steps(batches), units=1, pairs=PAIRS)


def _detection(cfg: DictConfig, model: nn.Module, peer: Peer, images: Sequence[np.ndarray]) -> Comparison:
    """From decoded images of 1920x1080 to masks in their pixels.

    Raises:
        RuntimeError: the two don't find the same number of items.
    """
    ours = Predictor(TrainedDetector(untrained(cfg, model)), batch_size=len(images), threads=torch.get_num_threads())
    counts = [len(found) for found in ours.predict(images)], [len(scores) for scores, _ in peer.detect(images)]
    if counts[0] != counts[1]:
        raise RuntimeError(f"in {len(images)} images we find {counts[0]} items, {peer.name} finds {counts[1]}")
    name = f"detect in images of 1920x1080, {MODEL}, batches of {len(images)} ({peer.name})"
    return compare(name, "image", lambda: ours.predict(images), lambda: peer.detect(images),
                   units=len(images), pairs=PAIRS)  # fmt: skip
