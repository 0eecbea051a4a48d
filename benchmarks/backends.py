"""All backends beside detectron2's DefaultPredictor loop in one run: from image files to masks in the images' pixels.

`python -m benchmarks.backends` measures Mask R-CNN R50 with random weights within 800x450; with OUTPUT_DIR, a trained
run with the files that `tools/export.py OUTPUT_DIR --tune` makes. Processor time in one thread.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # for all libraries, before they are loaded

import torch
from tabulate import tabulate

from benchmarks.inference import DefaultLoop, demo_images
from benchmarks.pairs import seconds_in_turns
from benchmarks.r50 import generate_images, lively_model, r50_config
from xray_lazy.config import save_config
from xray_lazy.engine.trained_model import load_trained_model
from xray_lazy.export.export_model import ExportOptions, export_model
from xray_lazy.prediction.backends import installed_backends
from xray_lazy.prediction.predictor import Predictor
from xray_lazy.prediction.processor import processor


def r50_run(folder: Path) -> tuple[Path, list[Path]]:
    """An output folder with random weights and their exported files, and images."""
    generate_images(folder)
    run = folder / "run"
    cfg = r50_config("xray/mask_rcnn_r50.py", folder)
    save_config(cfg, run / "config.yaml")
    torch.save({"model": lively_model(cfg).state_dict()}, run / "model_final.pth")
    paths = sorted((folder / "images").rglob("*.jpg"))
    for precision in ("float32", "int8"):
        files = tuple(map(str, paths))
        options = ExportOptions(str(run), images=files, precision=precision, allow_loss=True)
        export_model(options, lambda line: None)
    return run, paths


def measure(run: Path, paths: list[Path], rounds: int) -> list[tuple[str, float, float, float, float]]:
    """Per backend: milliseconds per image, and how many times as fast as the loop, median, lowest and highest."""
    plain = DefaultLoop(load_trained_model(run, device="cpu"))
    steps = {"DefaultPredictor": lambda: [plain(path) for path in paths]}
    for name in installed_backends():
        predictor = Predictor.of(run, device="cpu", backend=name, batch_size=1, threads=1)
        steps[name] = lambda predictor=predictor: predictor.predict(paths)
    times = seconds_in_turns(steps, len(paths), rounds)
    rows = []
    for name, own in times.items():
        ratios = sorted(theirs / ours for theirs, ours in zip(times["DefaultPredictor"], own, strict=True))
        rows.append((name, 1e3 * statistics.median(own), statistics.median(ratios), ratios[0], ratios[-1]))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_folder", nargs="?", type=Path, metavar="OUTPUT_DIR")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks_backends.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.run_folder:
            run, paths = options.run_folder, demo_images(Path(folder) / "demo")
        else:
            run, paths = r50_run(Path(folder))
        rows = measure(run, paths, options.rounds)
    print(processor())
    cells = [(name, f"{ms:.1f}", f"{ratio:.2f}", f"{low:.2f}-{high:.2f}") for name, ms, ratio, low, high in rows]
    print(tabulate(cells, ("backend", "ms/image", "times as fast", "spread"), disable_numparse=True))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"processor": processor(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
