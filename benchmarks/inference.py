"""Our Predictor beside detectron2's DefaultPredictor loop: from image files to masks in the image's pixels.

`python -m benchmarks.inference OUTPUT_DIR` takes a trained model instead of random weights, and shows what each switch
brings. Processor time in one thread, so that a busy machine does not matter.
"""

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Instances
from omegaconf import DictConfig
from tabulate import tabulate
from torch import nn

from benchmarks.pairs import Comparison, compare, report, seconds_in_turns
from benchmarks.r50 import EDGE, LONGEST, generate_images, lively_model, r50_config
from xray_lazy.config import get_config
from xray_lazy.data.synthetic.generate import generate_set
from xray_lazy.engine.trained_model import TrainedModel, load_trained_model
from xray_lazy.modeling.region_pooling import RegionPooler, use_region_poolers
from xray_lazy.prediction.batch_norm_folding import fold_batch_norm
from xray_lazy.prediction.detector import TrainedDetector, faster
from xray_lazy.prediction.predictor import Predictor

IMAGES, PAIRS, BATCH = 8, 5, 8
LARGE = (1920, 1080)
CONFIG = "xray/mask_rcnn_r18_demo.py"


def compare_all(folder: Path, run_folder: str | None = None) -> list[Comparison]:
    """Files of images of the demo's size, and of 1920x1080; without a run, also with a Mask R-CNN R50."""
    sizes = {"demo's size": demo_images(folder / "demo")}
    sizes[f"{LARGE[0]}x{LARGE[1]}"] = enlarged(sizes["demo's size"], folder / "large")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = [_compare(f"files of {name}", load(run_folder), load(run_folder), sizes[name]) for name in sizes]
        if run_folder is None:
            results.append(_compare_r50(folder / "r50"))
        return results
    finally:
        torch.set_num_threads(threads)


class DefaultLoop:
    """DefaultPredictor's steps for a LazyConfig's model: PIL reads and resizes, then one image after the other."""

    def __init__(self, trained: TrainedModel) -> None:
        self.model = with_their_poolers(trained.model)
        mapper = trained.cfg.dataloader.test.mapper
        self.resize: T.ResizeShortestEdge = instantiate(mapper.augmentations[0])
        self.format = mapper.image_format

    def __call__(self, path: Path) -> Instances:
        with torch.no_grad():
            original = read_image(str(path), self.format)
            image = self.resize.get_transform(original).apply_image(original)
            image = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
            height, width = original.shape[:2]
            return self.model([{"image": image, "height": height, "width": width}])[0]["instances"]


def load(run_folder: str | None) -> TrainedModel:
    """The model of a run, or the demo's with random weights: it finds as many items as it may, a hundred an image."""
    if run_folder:
        return load_trained_model(run_folder, device="cpu")
    torch.manual_seed(0)
    cfg = get_config(CONFIG)
    return untrained(cfg, instantiate(cfg.model))


def untrained(cfg: DictConfig, model: nn.Module) -> TrainedModel:
    """A model as if it had been trained."""
    return TrainedModel(cfg, model.eval().requires_grad_(False), "cpu", (), "", None)


def with_their_poolers(model: nn.Module) -> nn.Module:
    """The model itself, with detectron2's own poolers, from which ours differ in their methods alone."""
    for module in model.modules():
        if type(module) is RegionPooler:
            module.__class__ = ROIPooler
    return model


def demo_images(folder: Path) -> list[Path]:
    generate_set(folder, "demo", {"train": IMAGES, "val": 0, "test": 0})
    return sorted((folder / "images").rglob("*.jpg"))


def enlarged(paths: Sequence[Path], folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    written = []
    for path in paths:
        written.append(folder / path.name)
        large = cv2.resize(cv2.imread(str(path)), LARGE, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(written[-1]), large)
    return written


def switches(run_folder: str | None, paths: Sequence[Path], rounds: int = 3) -> list[tuple[str, float, float]]:
    """Milliseconds per image with one more switch each time, and how many times as fast as the plain loop that is."""

    def predictor(batch: int, *changes: Callable) -> Callable:
        trained = load(run_folder)
        with_their_poolers(trained.model)
        for change in changes:
            change(trained.model)
        ours = Predictor(TrainedDetector(trained, plain=True), batch, threads=1)
        return lambda: ours.predict(paths)

    plain = DefaultLoop(load(run_folder))
    steps = {
        "DefaultPredictor": lambda: [plain(path) for path in paths],
        "reading, resizing and pasting": predictor(1),
        f"+ batches of {BATCH}": predictor(BATCH),
        "+ folded batch norm": predictor(BATCH, fold_batch_norm),
        "+ channels last": predictor(BATCH, fold_batch_norm, channels_last),
        "+ gathered regions": predictor(BATCH, fold_batch_norm, channels_last, use_region_poolers),
        "+ masks in parts": predictor(BATCH, faster),
    }
    times = seconds_in_turns(steps, len(paths), rounds)
    middle = {name: statistics.median(values) for name, values in times.items()}
    return [(name, 1e3 * value, middle["DefaultPredictor"] / value) for name, value in middle.items()]


def channels_last(model: nn.Module) -> None:
    model.to(memory_format=torch.channels_last)


def _compare_r50(folder: Path) -> Comparison:
    generate_images(folder)
    cfg = r50_config("xray/mask_rcnn_r50.py", folder)
    model = lively_model(cfg)
    name = f"files of {LARGE[0]}x{LARGE[1]}, Mask R-CNN R50 within {LONGEST}x{EDGE}"
    paths = sorted((folder / "images").rglob("*.jpg"))
    return _compare(name, untrained(cfg, copy.deepcopy(model)), untrained(cfg, model), paths)


def _compare(name: str, trained: TrainedModel, plain: TrainedModel, paths: Sequence[Path]) -> Comparison:
    ours, theirs = Predictor(TrainedDetector(trained), min(BATCH, len(paths)), threads=1), DefaultLoop(plain)
    return compare(
        f"predict {name}, batches of {ours.batch_size} (DefaultPredictor, one by one)",
        "image",
        lambda: ours.predict(paths),
        lambda: [theirs(path) for path in paths],
        units=len(paths),
        pairs=PAIRS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_folder", nargs="?", metavar="OUTPUT_DIR")
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks_inference.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = demo_images(Path(folder) / "demo")
        for size, files in (("demo's size", paths), ("1920x1080", enlarged(paths, Path(folder) / "large"))):
            print(f"\n{size}, processor time in one thread")
            rows = [(name, f"{ms:.1f}", f"{ratio:.2f}") for name, ms, ratio in switches(options.run_folder, files)]
            print(tabulate(rows, headers=["", "ms/image", "times as fast"], disable_numparse=True))
    with tempfile.TemporaryDirectory() as folder:
        report(compare_all(Path(folder), options.run_folder), options.output)


if __name__ == "__main__":
    main()
