"""What each switch brings to a training step on a GPU, beside detectron2's loop: images/s, memory, waits, loss.

    python -m benchmarks.gpu_training                                    # Mask R-CNN and Sparse R-CNN, 8 of 1344x800
    python -m benchmarks.gpu_training --device cpu --size 192 320 --batch 2 --configs xray/mask_rcnn_r18_demo.py

Peer and switches take turns in rounds on the same batches from the same weights; the median of a round's steps counts.
`waits` are the times per step that the host waits for the GPU, as torch's sync debug mode counts them.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.utils.events import EventStorage

from benchmarks.made_pictures import make_picture
from xray_lazy.config import get_config
from xray_lazy.engine.experiment import build_model, build_optimizer, build_trainer

CONFIGS = ("xray/mask_rcnn_r50.py", "xray/sparse_rcnn_r50.py")
BF16, CHANNELS = "train.amp.enabled=True", "train.channels_last=True"
FUSED, COMPILED = "optimizer.fused=True", "train.compile.enabled=True"
SWITCHES: dict[str, list[str]] = {
    "ours, float32": [],
    "ours, bf16": [BF16],
    "ours, bf16, channels_last": [BF16, CHANNELS],
    "ours, bf16, channels_last, fused": [BF16, CHANNELS, FUSED],
    "ours, bf16, channels_last, fused, compiled backbone": [BF16, CHANNELS, FUSED, COMPILED],
}
ROUNDS = 3


def main() -> None:
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", nargs=2, type=int, default=(800, 1344), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of each in a round (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("output/gpu_training.json"))
    options = parser.parse_args()
    rows = [row for config in options.configs for row in measure(config, options)]
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"device": _device_name(options.device), "rows": rows}, indent=2) + "\n")


def measure(config: str, options: argparse.Namespace) -> list[dict]:
    """A row for the peer in both precisions and for each switch."""
    torch.manual_seed(0)
    batches = [[make_picture(tuple(options.size), 8, 2) for _ in range(options.batch)] for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        steppers = {"detectron2, float32": _their_step(config, options.device, batches, amp=False)}
        if options.device == "cuda":
            steppers["detectron2, AMP float16"] = _their_step(config, options.device, batches, amp=True)
        for name, overrides in SWITCHES.items():
            steppers[name] = _our_step(config, options.device, batches, overrides, folder)
        memory = {name: _peak_memory(step, options.device) for name, step in steppers.items()}  # warms up, too
        waits = {name: _waits(step, options.device) for name, step in steppers.items()}
        rounds = [
            {name: _seconds(step, options.steps, options.device) for name, step in steppers.items()}
            for _ in range(ROUNDS)
        ]
        losses = {name: step() for name, step in steppers.items()}
    peer = "detectron2, float32"
    return [
        {
            "config": Path(config).stem,
            "loop": name,
            "images/s": options.batch / statistics.median(times[name] for times in rounds),
            "ratio to float32 peer": statistics.median(times[peer] / times[name] for times in rounds),
            "peak GiB": memory[name],
            "waits": waits[name],
            "loss": losses[name],
        }
        for name in steppers
    ]


def _our_step(config: str, device: str, batches: list, overrides: list[str], folder: str) -> Callable[[], float]:
    trainer = build_trainer(*_configured(config, device, overrides, folder), device)
    trainer.model.train()
    trainer.iter, trainer.max_iter, trainer._batches = 0, 10**9, itertools.cycle(batches)

    def step() -> float:
        with EventStorage(0) as trainer.storage:
            trainer.run_step()
        return trainer.last_losses["total_loss"]

    return step


def _their_step(config: str, device: str, batches: list, amp: bool) -> Callable[[], float]:
    cfg, model = _configured(config, device, [], "")
    model.train()
    kind = AMPTrainer if amp else SimpleTrainer
    trainer = kind(model, itertools.cycle(batches), build_optimizer(cfg, model))
    trainer.iter = 0

    def step() -> float:
        with EventStorage(0) as trainer.storage:
            trainer.run_step()
            return trainer.storage.latest()["total_loss"][0]

    return step


def _configured(config: str, device: str, overrides: list[str], folder: str) -> tuple:
    cfg = get_config(config, overrides)
    cfg.train.output_dir, cfg.dataloader.train.dataset = folder, [{"file_name": "not read", "annotations": []}]
    cfg.dataloader.train.update(num_workers=0, total_batch_size=1)
    cfg.hooks, cfg.writers = {}, {}
    return cfg, build_model(cfg, device)


def _seconds(step: Callable[[], float], steps: int, device: str) -> float:
    times = []
    for _ in range(steps):
        _synchronize(device)
        start = time.perf_counter()
        step()
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _peak_memory(step: Callable[[], float], device: str) -> float:
    step()  # compiles, and makes the optimizer's buffers
    if device != "cuda":
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**30


def _waits(step: Callable[[], float], device: str) -> float:
    if device != "cuda":
        return float("nan")
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


if __name__ == "__main__":
    main()
