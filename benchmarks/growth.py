"""How a training step's time and memory grow with classes, objects, proposals, images and processes.

    python -m benchmarks.growth            # prints the table, writes output/growth.json

A step of a small model is timed at growing sizes, in rounds over all sizes; the median counts. Memory is what the
forward pass keeps for the backward pass. `exponent` is the slope between the first and the last size on logarithmic
axes: 1 is linear growth, 0 none.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage

from benchmarks.made_images import make_image
from xray_lazy.config import get_config
from xray_lazy.engine.processes.launch import plan_launch, run_processes

SIZE = (192, 320)
ROUNDS = 5
MASK_RCNN, SPARSE_RCNN = "xray/mask_rcnn_r18_demo.py", "projects/sparse_rcnn/sparse_rcnn_tiny_demo.py"
SWEEPS: dict[str, tuple[str, tuple[int, ...]]] = {
    "classes": (MASK_RCNN, (13, 100, 1000)),
    "objects per image": (MASK_RCNN, (1, 10, 100, 300)),
    "RPN proposals": (MASK_RCNN, (250, 1000, 2000)),
    "images per batch": (MASK_RCNN, (1, 2, 4, 8)),
    "Sparse R-CNN proposals": (SPARSE_RCNN, (25, 100, 300)),
    "Sparse R-CNN classes": (SPARSE_RCNN, (13, 100, 1000)),
    "Sparse R-CNN objects per image": (SPARSE_RCNN, (1, 10, 100)),
}


def main() -> None:
    from tabulate import tabulate

    torch.set_num_threads(1)
    rows = [row for name, (config, sizes) in SWEEPS.items() for row in grow(name, config, sizes)]
    rows += grow_processes((1, 2))
    print(tabulate(rows, headers="keys", floatfmt=".2f"))
    path = Path("output/growth.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written to {path}")


def grow(name: str, config: str, sizes: tuple[int, ...]) -> list[dict]:
    """A row of the table for each size."""
    steps = [_new_step(name, config, size) for size in sizes]
    memory = [step.kept_for_backward() for step in steps]
    rounds = [[step.seconds() for step in steps] for _ in range(ROUNDS)]
    seconds = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return _rows(name, sizes, [1e3 * second for second in seconds], memory)


def grow_processes(counts: tuple[int, ...]) -> list[dict]:
    """Wall time of a step of data-parallel processes over gloo, each with a batch of two images."""
    milliseconds = []
    for count in counts:
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        words += ["-m", "benchmarks.growth", "process"]
        printed = subprocess.run(
            words, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True, text=True
        ).stdout
        milliseconds.append(float(printed.split()[-1]))
    return _rows("gloo processes, one thread each", counts, milliseconds, [math.nan] * len(counts))


def _rows(name: str, sizes: tuple[int, ...], milliseconds: list[float], memory: list[float]) -> list[dict]:
    exponent = math.log(milliseconds[-1] / milliseconds[0]) / math.log(sizes[-1] / sizes[0])
    return [
        {"what grows": name, "size": size, "step ms": time_, "kept MiB": kept, "exponent": exponent}
        for size, time_, kept in zip(sizes, milliseconds, memory, strict=True)
    ]


class Step:
    """A model and a batch of images that it is trained on."""

    def __init__(self, model: torch.nn.Module, batch: list[dict]):
        self.model, self.batch = model.train(), batch

    def forward(self) -> torch.Tensor:
        with EventStorage(0):
            return sum(self.model(self.batch).values())

    def seconds(self) -> float:
        """Of this process, for one step."""
        start = time.process_time()
        self.forward().backward()
        self.model.zero_grad()
        return time.process_time() - start

    def kept_for_backward(self) -> float:
        """MiB of the tensors that the forward pass saves, weights included, each counted once."""
        kept = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.forward()
        total = sum(kept.values()) / 2**20
        del loss  # holds them until here, so that no two had the same place
        return total


def _new_step(name: str, config: str, size: int) -> Step:
    sparse = config == SPARSE_RCNN
    sizes = {"classes": 5, "objects": 5, "proposals": 100 if sparse else 1000, "images": 2}
    changed = next(kind for kind in sizes if kind in name)
    sizes[changed] = size
    cfg = get_config(config)
    if sparse:
        cfg.model.num_classes, cfg.model.num_proposals = sizes["classes"], sizes["proposals"]
    else:
        cfg.model.roi_heads.num_classes = sizes["classes"]
        topk = (sizes["proposals"],) * 2
        cfg.model.proposal_generator.update(pre_nms_topk=topk, post_nms_topk=topk)
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    return Step(model, [make_image(SIZE, sizes["objects"], sizes["classes"]) for _ in range(sizes["images"])])


def _time_as_one_process() -> None:
    """In each of the processes: the median of some steps of a data-parallel model; the first prints it."""
    cfg = get_config(MASK_RCNN)
    model = torch.nn.parallel.DistributedDataParallel(instantiate(cfg.model).train())
    batch = [make_image(SIZE, 5, 5) for _ in range(2)]
    times = []
    with EventStorage(0):
        for _ in range(3 + ROUNDS):
            start = time.perf_counter()
            sum(model(batch).values()).backward()
            times.append(time.perf_counter() - start)
    if torch.distributed.get_rank() == 0:
        print(1e3 * statistics.median(times[3:]))


if __name__ == "__main__":
    if sys.argv[1:] == ["process"]:
        run_processes(plan_launch("cpu"), _time_as_one_process)
    else:
        main()
