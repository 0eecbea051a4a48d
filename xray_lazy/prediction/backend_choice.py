"""Which backend is the fastest for a model on this machine: measured once, and remembered beside the exported files."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

from xray_lazy.engine.trained_model import TrainedModel, find_weights, load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.export.average_precision import average_precision, largest_loss, sets_at_hand
from xray_lazy.export.export_model import ExportOptions, describe, export_model, exported_file
from xray_lazy.export.facts import read_facts, sha256_of
from xray_lazy.export.tried_images import images_to_try
from xray_lazy.prediction.backends import BACKENDS, Backend, installed_backends, load_backend
from xray_lazy.prediction.detector import Detector
from xray_lazy.prediction.processor import processor
from xray_lazy.utils.atomic_file import write_json

RECORD = "backends.json"
FASTEST = "fastest"
ROUNDS = 4
MOST_LOSS = 1.0  # AP that the fastest may lose, in percent


def tune(run_folder: str, report: Callable[[str], None], calibration: int = 64) -> str:
    """Export what the backends take, measure their AP and their speed, write both down, and tell which one is fastest.

    Args:
        report: is told what happens, line by line.
        calibration: images for int8.

    Raises:
        UserError: no such run, or its test set, which AP is measured on, is not here.
    """
    weights = find_weights(run_folder)
    sets = sets_at_hand(load_trained_model(run_folder, device="cpu"))
    if not sets:
        raise UserError("the test set is not here, on which AP is measured", "tune where it is; speed can be elsewhere")
    names = installed_backends()
    found: dict[str, dict[str, float]] = {}
    for precision in sorted({BACKENDS[name].file for name in names} - {None}):
        # what int8 loses is told, and weighed below
        options = ExportOptions(run_folder, precision=precision, calibration=calibration, allow_loss=True)
        measured = read_facts(export_model(options, report)).average_precision
        # an export measures both already: that of the file, by onnxruntime, and that of PyTorch
        found["pytorch"] = {task: ap["pytorch"] for task, ap in measured.items()}
        by_onnxruntime = next(name for name in names if BACKENDS[name] == Backend("onnxruntime", precision))
        found[by_onnxruntime] = {task: ap["exported"] for task, ap in measured.items()}
    for name in names:
        if name not in found:
            found[name] = average_precision(_AsModel(load_backend(name, run_folder, device="cpu")), sets)
        report(f"{name}: " + ", ".join(f"{task} AP {ap:.2f}" for task, ap in found[name].items()))
    files = _exported(run_folder, names)
    record = {"weights": _fingerprint(weights), "files": files, "average_precision": found, "seconds": {}}
    record["seconds"][processor()] = seconds = _seconds(run_folder, names)
    write_json(_place(run_folder), record, indent=2)
    report(_table(record, seconds))
    best = _fastest(record, seconds)
    report(
        f"{best} is the fastest that loses at most {MOST_LOSS} AP; {_place(run_folder)} keeps that for {processor()}"
    )
    return best


def detector_by(
    backend: str, source: str | Path, weights: str | None, overrides: Sequence[str], device: str
) -> Detector:
    """The detector of a training's output folder, run by the backend of this name, or by the fastest.

    Raises:
        UserError: it is no such folder, or can't be run so.
    """
    if not Path(source).is_dir():
        raise UserError(
            f"{source} is no output folder of a training, of which a backend is chosen", "leave out backend"
        )
    if backend != FASTEST:
        return load_backend(backend, source, weights, overrides, device)
    if weights or overrides:
        raise UserError("the fastest backend is that of the run's own weights and settings", "leave out the others")
    return load_fastest(source)


def load_fastest(run_folder: str | Path) -> Detector:
    """The detector of a tuned run in the fastest way on this processor, which is measured if it has not been yet.

    Raises:
        UserError: the run has not been tuned, or was with other weights or exported files.
    """
    place, here = _place(run_folder), processor()
    fix = f"tools/export.py {run_folder} --tune"
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        weights, seconds, _ = record["weights"], record["seconds"], _losses(record)
        measured = {name: float(one) for name, one in seconds.get(here, {}).items()}
    except FileNotFoundError:
        raise UserError(f"which backend is the fastest for {run_folder} is not known", fix) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{place} does not tell how fast backends are", fix) from None
    if weights != _fingerprint(find_weights(run_folder)):
        raise UserError(f"{place} is of other weights than those in {run_folder}", fix)
    if record.get("files") != _exported(run_folder, record["average_precision"]):
        raise UserError(f"{place} is of other exported files than those in its folder", fix)
    usable = [name for name in installed_backends() if name in record["average_precision"]]
    if "pytorch" not in measured:
        seconds[here] = measured = _seconds(run_folder, usable)
        with suppress(OSError):  # a folder that may only be read
            write_json(place, record, indent=2)
    return load_backend(_fastest(record, {n: s for n, s in measured.items() if n in usable}), run_folder)


class _AsModel(nn.Module):
    """A detector as evaluation takes one."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self._detector = detector

    def forward(self, batch: Sequence[dict]) -> list[dict]:
        sizes = [(sample["height"], sample["width"]) for sample in batch]
        found = self._detector.detect([sample["image"] for sample in batch], sizes)
        return [{"instances": one} for one in found]


def _place(run_folder: str | Path) -> Path:
    return exported_file(find_weights(run_folder), run_folder, "float32").with_name(RECORD)


def _fingerprint(weights: Path) -> dict[str, str]:
    return {"file": weights.name, "sha256": sha256_of(weights)}


def _exported(run_folder: str | Path, names: Iterable[str]) -> dict[str, str]:
    """The exported files that these backends run, by their names, with their SHA-256 ("" where one is gone)."""
    weights = find_weights(run_folder)
    precisions = {BACKENDS[name].file for name in names if name in BACKENDS} - {None}
    files = [exported_file(weights, run_folder, precision) for precision in sorted(precisions)]
    return {file.name: sha256_of(file) if file.is_file() else "" for file in files}


def _seconds(run_folder: str | Path, names: Sequence[str]) -> dict[str, float]:
    """Seconds for an image, one after the other, the fastest of some rounds in which all take turns."""
    trained: TrainedModel = load_trained_model(run_folder, device="cpu")
    facts = describe(trained, "onnx", None)
    images = [torch.from_numpy(image) for _, image in images_to_try(trained.cfg, facts, (), 3)]
    detectors = {name: load_backend(name, run_folder, device="cpu") for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, detector in detectors.items():
            start = time.perf_counter()
            for image in images:
                detector.detect([image], [tuple(image.shape[1:])])
            times[name].append((time.perf_counter() - start) / len(images))
    return {name: min(values) for name, values in times.items()}


def _fastest(record: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    losses = _losses(record)
    # without a known AP, PyTorch alone loses nothing
    kept = (name for name in seconds if name == "pytorch" or losses[name] <= MOST_LOSS)
    return min(kept, key=lambda name: seconds[name])


def _losses(record: Mapping[str, Any]) -> dict[str, float]:
    found = record["average_precision"]
    return {name: largest_loss(found["pytorch"], of_backend) for name, of_backend in found.items()}


def _table(record: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    losses, own = _losses(record), seconds["pytorch"]
    rows = [
        (name, f"{1e3 * seconds[name]:.1f}", f"{own / seconds[name]:.2f}", f"{max(losses[name], 0):.2f}")
        for name in sorted(seconds, key=lambda name: seconds[name])
    ]
    return tabulate(rows, ("backend", "ms per image", "times as fast", "AP lost"), disable_numparse=True)
