"""How memory and time of reading grow with the data set: `python -m benchmarks.data_growth`, about a minute.

Annotations are synthetic, 2 instances with outlines of 12 corners an image; all images are one small file.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

SIZES = (1_000, 10_000, 100_000)
INSTANCES, CORNERS, CLASSES = 2, 12, 13
BATCHES = 20


def write_set(folder: Path, images: int) -> dict:
    """A COCO file of so many images, as `load_datasets` takes it."""
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "bag.png"), random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    entries = [{"id": i, "file_name": "bag.png", "width": 64, "height": 48} for i in range(images)]
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    items = []
    for _ in range(100):
        center, radius = random.uniform(15, 35, 2), random.uniform(3, 12)
        outline = np.round(center + radius * circle, 2).ravel().tolist()
        box = np.round([*(center - radius), 2 * radius, 2 * radius], 2).tolist()
        items.append({"bbox": box, "area": 3 * radius**2, "iscrowd": 0, "segmentation": [outline]})
    annotations = [
        items[i % 100] | {"id": i, "image_id": i // INSTANCES, "category_id": 1 + i % CLASSES}
        for i in range(images * INSTANCES)
    ]
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
    file = folder / f"{images}.json"
    file.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return {"json_file": str(file), "image_root": str(folder), "name": f"growth_{images}"}


def measure(reference: dict, workers: int = 2) -> dict[str, float]:
    """Seconds and MB of loading a set and of reading it; in a process of its own, whose memory it measures."""
    from detectron2.data import transforms as T

    from xray_lazy.data.datasets import load_datasets
    from xray_lazy.data.loaders import TrainLoader
    from xray_lazy.data.mapper import DetectionMapper
    from xray_lazy.data.sampling import ShuffledEpochs

    before = megabytes("self")
    start = time.process_time()
    dataset = load_datasets(reference)
    load_seconds = time.process_time() - start
    for _ in dataset:
        pass  # touches all of it
    pass_seconds = time.process_time() - start - load_seconds
    loaded = megabytes("self")
    loader = TrainLoader(dataset, DetectionMapper([T.RandomFlip()]), ShuffledEpochs(seed=0), 8, workers)
    start = time.perf_counter()
    batches = loader.batches(0)
    next(batches)
    first_batch_seconds = time.perf_counter() - start
    for _ in range(BATCHES):
        next(batches)
    worker = max(megabytes(process.pid, "Private") for process in multiprocessing.active_children())
    return {
        "load_seconds": load_seconds,
        "pass_seconds": pass_seconds,
        "first_batch_seconds": first_batch_seconds,
        "dataset_mb": loaded - before,
        "worker_mb": worker,
    } | _rank(reference)


def _rank(reference: dict) -> dict[str, float]:
    """What another process of the machine needs to have the same set."""
    code = f"""
import json, time
from benchmarks.data_growth import megabytes
from xray_lazy.data.datasets import load_datasets
import numpy
before, start = megabytes("self", "Private"), time.perf_counter()
dataset = load_datasets({reference!r})
print(json.dumps(dict(rank_seconds=time.perf_counter() - start, rank_mb=megabytes("self", "Private") - before)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return json.loads(shown)


def megabytes(process: int | str, kind: str = "Pss:") -> float:
    """Memory of a process: its share of what it has with others, or what is private to it (`Private`)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def grow(sizes: tuple[int, ...] = SIZES) -> list[dict[str, float]]:
    """`measure` for each size, each in a fresh process."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            reference = write_set(Path(folder), size)
            megabytes = Path(reference["json_file"]).stat().st_size / 1e6
            command = [sys.executable, "-m", "benchmarks.data_growth", "--measure", json.dumps(reference)]
            measured = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append({"images": size, "json_mb": megabytes} | json.loads(measured.splitlines()[-1]))
    return rows


def main() -> None:
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--measure", type=json.loads, help="measure one set in this process and print JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)), flush=True)
    else:
        print(tabulate(grow(tuple(options.images)), headers="keys", floatfmt=".2f"))


if __name__ == "__main__":
    main()
