"""From the output folder of a training to a file that runs elsewhere, checked against the model itself."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate

from xray_lazy.atomic_file import write_text
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.engine.trained_model import TrainedModel, find_weights, load_trained_model
from xray_lazy.engine.weights_file import read_weights_file
from xray_lazy.errors import RunFailure, UserError
from xray_lazy.export.agreement import BOX_LIMIT, MASK_LIMIT, SCORE_LIMIT, Difference, compare
from xray_lazy.export.facts import SUFFIXES, ModelFacts, facts_path, write_facts
from xray_lazy.export.formats import quietly, write_model
from xray_lazy.export.runtime import OUTPUTS, ExportedModel, load_exported
from xray_lazy.export.single_image import SingleImageDetector
from xray_lazy.export.tried_images import images_to_try
from xray_lazy.results_place import check_result_file, json_with, sole_maker
from xray_lazy.run_folder import FINAL_AVERAGE, RunFolder

EXAMPLE = Path(__file__).parent / "run_onnx.py"  # goes with each ONNX model


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        source: the output folder of a training, or a config file.
        format: "onnx", "torchscript" or "torch_export".
        output: the file to write; by default in the folder `exported` of the source's folder.
        weights: file or URL; by default the best weights of the folder.
        ema: take the average of the weights that `hooks.ema` kept.
        size: fixed width and height of the input; None leaves them open where the format can.
        images: files to compare on; by default some of the test set.
        count: how many of the test set.
        device: to export on; TorchScript and torch.export stay there.
        overrides: of the config.
    """

    source: str
    format: str = "onnx"
    output: str | None = None
    weights: str | None = None
    ema: bool = False
    size: tuple[int, int] | None = None
    images: Sequence[str] = ()
    count: int = 3
    device: str = "cpu"
    overrides: Sequence[str] = ()


def export_model(options: ExportOptions, report: Callable[[str], None]) -> Path:
    """Export a model, compare it with the original, and put it in its place if they agree.

    Args:
        options: see there.
        report: is told what happens, line by line.

    Returns:
        the file that was written, with `<file>.json` beside it.

    Raises:
        UserError: no such run, weights, images, or missing packages.
        RunFailure: the model can't be exported, or the file does not agree with it; nothing is left then.
    """
    if options.output:
        _check_place(Path(options.output))
    trained = _load(options)
    facts = describe(trained, options.format, options.size)
    output = Path(options.output or _default_output(options, trained))
    _check_place(output)
    of_size = "any size" if facts.dynamic else f"{facts.width}x{facts.height}"
    report(f"exporting {facts.model} with {facts.weights} as {facts.format}, for images of {of_size}")
    detector = SingleImageDetector(trained.model)
    images = list(images_to_try(trained.cfg, facts, options.images, options.count))
    # a file that does not agree never gets to its place
    with sole_maker(output) as folder:
        file = folder / output.name
        write_model(detector, _tensor(images[0][1], facts), file, facts.format, facts.dynamic)
        write_facts(file, facts)
        check_agreement(detector, load_exported(file, "cpu"), images, report)
        for written, place in ((file, output), (facts_path(file), facts_path(output))):
            os.replace(written, place)
    report(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MiB) and {facts_path(output).name}")
    if facts.format == "onnx":
        example = output.parent / EXAMPLE.name
        if not example.exists():  # it may have been adapted
            write_text(example, EXAMPLE.read_text(encoding="utf-8"))
        report(f"try it with: python {example} {output} IMAGE ...")
    return output


def describe(trained: TrainedModel, format: str, size: tuple[int, int] | None) -> ModelFacts:
    """The facts of a model that is to be exported.

    Args:
        trained: the model.
        format: of the export.
        size: fixed width and height; None leaves them open where the format can.

    Raises:
        UserError: the model is of another kind than detectron2's, or its images are prepared in another way.
    """
    model, kind = trained.model, type(trained.model).__name__
    if not all(hasattr(model, name) for name in ("inference", "pixel_mean", "input_format", "backbone")):
        raise UserError(
            f"{kind} can't be exported: it is no detector like detectron2's GeneralizedRCNN",
            "give it backbone, pixel_mean, input_format and inference(batch, do_postprocess=False)",
        )
    short_edge, max_size = _resizing(trained.cfg)
    width, height = size or (min(max_size, 2 * short_edge), short_edge)
    with quietly(), torch.no_grad():
        outputs = SingleImageDetector(model)(torch.zeros(model.pixel_mean.numel(), 64, 64, device=trained.device))
    return ModelFacts(
        format=format,
        class_names=trained.class_names,
        input_format=model.input_format,
        short_edge=short_edge,
        max_size=max_size,
        size_divisibility=model.backbone.size_divisibility,
        dynamic=size is None and format != "torch_export",
        height=height,
        width=width,
        padding=tuple(round(value, 6) for value in model.pixel_mean.flatten().tolist()),
        has_masks=len(outputs) == len(OUTPUTS),
        device=trained.device,
        model=kind,
        weights=trained.weights,
        iteration=trained.iteration,
        reader=reader_settings(trained.cfg),
    )


def check_agreement(
    detector: SingleImageDetector,
    exported: ExportedModel,
    images: Sequence[tuple[str, np.ndarray]],
    report: Callable[[str], None],
) -> None:
    """Compare the detections of both in all images, and report differences and times.

    Raises:
        RunFailure: they differ by more than the limits, or the exported model does not run.
    """
    rows, seconds = [], []
    for name, image in images:
        with torch.no_grad():
            wanted, seconds_wanted = _timed(detector, _tensor(image, exported.facts))
        found, seconds_found = _timed(exported, image)
        wanted = {key: values.cpu().numpy() for key, values in zip(OUTPUTS, wanted, strict=False)}
        rows.append((name, image.shape, compare(wanted, found)))
        seconds.append((seconds_wanted, seconds_found))
    report(_table(rows))
    differences = [difference for _, _, difference in rows]
    if not all(difference.agrees for difference in differences):
        raise RunFailure(
            f"the exported model does not agree with PyTorch: boxes may differ by {BOX_LIMIT} pixels, scores by "
            f"{SCORE_LIMIT}, masks by {MASK_LIMIT}",
            "nothing was written; try another --format, and look at what the model does with shapes of tensors",
        )
    own, its = (min(times) for times in zip(*seconds, strict=True))
    times = f"{its:.3f} s per image, PyTorch {own:.3f} s (the fastest of {len(images)})"
    if any(difference.wanted for difference in differences):
        report(f"it agrees; {times}")
    else:
        report(
            "not checked: there were no detections to compare; name images that have some with --picture FILE, or "
            f"lower the model's score threshold; {times}"
        )


def _table(rows: Sequence[tuple[str, tuple[int, ...], Difference]]) -> str:
    head = ("image", "size", "detections", "boxes, px", "scores", "masks")
    cells = [
        (
            name,
            f"{shape[2]}x{shape[1]}",
            f"{d.wanted}" + (f", {d.unmatched} without a pair" if d.unmatched else ""),
            *(f"{value:.1g}" for value in (d.boxes, d.scores, d.masks)),
        )
        for name, shape, d in rows
    ]
    return tabulate(cells, head, disable_numparse=True)


def _timed(model: Callable, image: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return model(image), time.perf_counter() - start


def _tensor(image: np.ndarray, facts: ModelFacts) -> torch.Tensor:
    return torch.from_numpy(image).to(facts.device)


def _load(options: ExportOptions) -> TrainedModel:
    # ONNX is compared on the CPU, where both compute in float32
    device = "cpu" if options.format == "onnx" else options.device
    if not options.ema:
        return load_trained_model(options.source, options.weights, options.overrides, device)
    weights = options.weights or str(_averaged_weights(options.source))
    trained = load_trained_model(options.source, weights, options.overrides, device)
    if Path(weights).stem != FINAL_AVERAGE:
        states = read_weights_file(weights).get("trainer", {}).get("hooks", {})
        if not states.get("ema"):
            raise UserError(f"{weights} has no averaged weights", "train with hooks.ema.decay=0.9998, or omit --ema")
        trained.model.load_state_dict(states["ema"]["model"])
    return trained


def _averaged_weights(source: str) -> Path:
    folder = RunFolder(source)
    candidates = [folder.final_average] if folder.final_average.is_file() else folder.periodic()
    return candidates[0] if candidates else find_weights(source)


def _resizing(cfg: DictConfig) -> tuple[int, int]:
    """Short edge and longest long edge of the images in tests."""
    for augmentation in OmegaConf.select(cfg, "dataloader.test.mapper.augmentations") or []:
        if "short_edge_length" in augmentation:
            edge = augmentation.short_edge_length
            edge = int(edge if isinstance(edge, int) else edge[0])
            return edge, int(augmentation.get("max_size") or sys.maxsize)
    raise UserError(
        "the config does not say which size the network's images have: no ResizeShortestEdge is in "
        "dataloader.test.mapper.augmentations",
        "add one there",
    )


def reader_settings(cfg: DictConfig) -> dict[str, Any]:
    """Those of `dataloader.test.mapper.reader`; nothing for files of 8-bit colours.

    Raises:
        UserError: it is a reader of the user's own.
    """
    node = OmegaConf.select(cfg, "dataloader.test.mapper.reader")
    reader = instantiate(node) if node else ImageReader()
    if not isinstance(reader, ImageReader):
        raise UserError(
            f"{type(reader).__name__} reads the images of this model, which an exported file can't take along",
            "export a model whose images an ImageReader reads; this one runs by tools/predict.py with its checkpoint",
        )
    return reader.settings() if reader.fingerprint() else {}


def _check_place(output: Path) -> None:
    """Refuse to replace anything but an earlier export and its facts."""
    facts = facts_path(output)
    check_result_file(facts, lambda path: json_with(path, "format", "class_names"), "the facts of an exported model")
    check_result_file(output, lambda _: facts.is_file(), "an exported model")


def _default_output(options: ExportOptions, trained: TrainedModel) -> Path:
    folder = Path(options.source)
    folder = folder if folder.is_dir() else Path(trained.cfg.train.output_dir)
    stem = Path(trained.weights).stem
    average = "_ema" if options.ema and not stem.endswith("_ema") else ""
    return folder / "exported" / f"{stem}{average}{SUFFIXES[options.format]}"
