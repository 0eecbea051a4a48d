"""What each switch brings to a training step on a GPU, beside detectron2's loop: images/s, memory, waits, loss.

    python -m benchmarks.gpu_training                                    # Mask R-CNN and Sparse R-CNN, 8 of 1344x800
    python -m benchmarks.gpu_training --device cpu --size 192 320 --batch 2 --configs xray/mask_rcnn_r18_demo.py

Each switch and the peer take turns in rounds on the same batches, from the same weights; the median of a round's steps
counts. A row is printed and written as soon as it is there; a switch that fails has the reason in its row. `waits` are
the times per step that the host waits for the GPU, as torch's sync debug mode counts them. The last switch compiles,
which takes many minutes on a CPU.
"""

import argparse
import gc
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from detectron2.engine import AMPTrainer, SimpleTrainer
from detectron2.utils.events import EventStorage

from benchmarks.made_images import make_image
from xray_lazy.config import get_config
from xray_lazy.data.memory.batch_memory import PinnableBatch
from xray_lazy.engine.experiment import build_model, build_optimizer, build_trainer
from xray_lazy.modeling.step_numbers import StepStorage

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
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --device cpu with a small --size and --batch tries the benchmark itself")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for config in options.configs:
        for row in measure(config, options):
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            rows.append(row)
            report = {"device": _device_name(options.device), "rows": rows}
            options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(tabulate(rows, headers="keys"))


def measure(config: str, options: argparse.Namespace) -> Iterator[dict]:
    """A row for the peer in both precisions and for each switch; one that fails has the reason for its figures."""
    torch.manual_seed(0)
    batches = [[make_image(tuple(options.size), 8, 2) for _ in range(options.batch)] for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        loops = {"detectron2, float32": lambda: _their_step(config, options.device, batches, amp=False)}
        if options.device == "cuda":
            loops["detectron2, AMP float16"] = lambda: _their_step(config, options.device, batches, amp=True)
        for name, overrides in SWITCHES.items():
            loops[name] = lambda overrides=overrides: _our_step(config, options.device, batches, overrides, folder)
        peer = next(iter(loops.values()))()
        for name, build in loops.items():
            row = {"config": Path(config).stem, "loop": name}
            try:
                yield row | _figures(build, peer, options)
            except Exception as error:  # the others are worth having without it
                yield row | {"failed": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
            torch.compiler.reset()
            gc.collect()  # an error's traceback holds tensors


def _figures(build: Callable[[], Callable[[], float]], peer: Callable[[], float], options: argparse.Namespace) -> dict:
    start, on_gpu = time.perf_counter(), options.device == "cuda"
    before = torch.cuda.memory_allocated() if on_gpu else 0
    step = build()
    loss = step()  # compiles, and makes the optimizer's buffers
    figures: dict = {"ready after s": round(time.perf_counter() - start, 1)}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        figures["waits"] = _waits(step)
        figures["peak GiB"] = round((torch.cuda.max_memory_allocated() - before) / 2**30, 2)
    pairs = [[_seconds(one, options.steps, options.device) for one in (peer, step)] for _ in range(ROUNDS)]
    figures["images/s"] = round(options.batch / statistics.median(own for _, own in pairs), 2)
    figures["times float32 peer"] = round(statistics.median(theirs / own for theirs, own in pairs), 2)
    return figures | {"first loss": round(loss, 4)}


def _our_step(config: str, device: str, batches: list, overrides: list[str], folder: str) -> Callable[[], float]:
    trainer = build_trainer(*_configured(config, device, overrides, folder), device)
    trainer.model.train()
    if device == "cuda":  # as our loader does, and detectron2's does not
        batches = [PinnableBatch(batch).pin_memory().samples for batch in batches]
    trainer.iter, trainer.max_iter, trainer._batches = 0, 10**9, itertools.cycle(batches)

    def step() -> float:
        with StepStorage(0) as trainer.storage:
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


def _waits(step: Callable[[], float]) -> int:
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


if __name__ == "__main__":
    main()
