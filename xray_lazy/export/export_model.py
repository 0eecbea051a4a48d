"""From the output folder of a training to a file that runs elsewhere, checked against the model itself."""

import copy
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from omegaconf import DictConfig, OmegaConf
from torch import nn

from xray_lazy.config.keys import is_within
from xray_lazy.config.override_grammar import parse_override
from xray_lazy.data.image_reader import ImageReader
from xray_lazy.engine.trained_model import USED, TrainedModel, find_weights, load_trained_model
from xray_lazy.engine.weights.weights_file import read_weights_file
from xray_lazy.errors import UserError
from xray_lazy.export.export_checks import check_agreement, check_average_precision, sets_to_measure
from xray_lazy.export.facts import (
    SUFFIXES,
    TAKES_BATCHES,
    ModelFacts,
    facts_path,
    files_of,
    sha256_of,
    write_facts,
)
from xray_lazy.export.formats import quietly, write_model
from xray_lazy.export.lower_precision import to_int8
from xray_lazy.export.runtime import OUTPUTS, load_exported
from xray_lazy.export.single_image import SingleImageDetector, exportable
from xray_lazy.export.tried_images import calibration_images, images_to_try
from xray_lazy.modeling.network_precision import compute_in
from xray_lazy.run_folder import FINAL_AVERAGE, RunFolder
from xray_lazy.utils.atomic_file import write_text
from xray_lazy.utils.results_place import check_json_file, check_result_file, sole_maker

EXAMPLE = Path(__file__).parent / "run_onnx.py"  # goes with each ONNX model
EXPORTED = "exported"  # the folder in that of a training


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        source: the output folder of a training, or a config file.
        format: "onnx", "openvino", "torchscript" or "torch_export".
        output: the file to write; by default in the folder `exported` of the source's folder.
        weights: file or URL; by default the best weights of the folder.
        ema: take the average of the weights that `hooks.ema` kept.
        size: fixed width and height of the input; None leaves them open where the format can.
        images: files to compare on; by default some of the test set.
        count: how many of the test set.
        device: to export on; TorchScript and torch.export stay there.
        overrides: of the config.
        precision: of ONNX and OpenVINO: "float32", "float16" or "int8".
        calibration: how many images of the training set tell "int8" the ranges of values, where `images` are not given.
        allow_loss: write the file, too, where it loses more AP than may be.
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
    precision: str = "float32"
    calibration: int = 64
    allow_loss: bool = False


def export_model(options: ExportOptions, report: Callable[[str], None]) -> Path:
    """Export a model, compare it with the original, and put it in its place if they agree.

    Args:
        options: see there.
        report: is told what happens, line by line.

    Returns:
        the file that was written, with `<file>.json` beside it.

    Raises:
        UserError: no such run, weights, images, or missing packages.
        RunFailure: the model can't be exported, or the file does not agree with it or has a lower AP; nothing is left
            then.
    """
    if options.precision != "float32" and options.format not in TAKES_BATCHES:
        raise UserError(f"{options.format} has no {options.precision}", f"--format {' or '.join(TAKES_BATCHES)} has")
    if options.size and options.precision != "float32" and not options.allow_loss:
        raise UserError(
            f"what {options.precision} loses of AP is not known: it is measured of models of any size",
            "leave out --size, or take the file as it is with --allow-loss",
        )
    if options.output:
        if options.format == "openvino" and Path(options.output).suffix != ".xml":
            raise UserError(f"{options.output} is no name for an OpenVINO model", "give it the suffix .xml")
        check_place(Path(options.output), options.format)
    trained = _load(options)
    detector = exportable(trained.model, options.format in TAKES_BATCHES)
    facts = describe(trained, options.format, options.size)
    overrides = tuple(text for text in options.overrides if is_within(parse_override(text).key, USED))
    facts = dataclasses.replace(facts, batched=detector.takes_batches, precision=options.precision, overrides=overrides)
    output = Path(options.output or _default_output(options, trained))
    check_place(output, options.format)
    sets = sets_to_measure(trained, facts, options.allow_loss)  # before work that takes minutes
    of_size = "any size" if facts.dynamic else f"{facts.width}x{facts.height}"
    how = facts.format if facts.precision == "float32" else f"{facts.format} in {facts.precision}"
    report(f"exporting {facts.model} with {facts.weights} as {how}, for images of {of_size}")
    images = list(images_to_try(trained.cfg, facts, options.images, options.count))
    # a file that does not agree never gets to its place
    with sole_maker(output) as folder:
        file = folder / output.name
        _write(detector, trained.cfg, images[0][1], file, facts, options)
        write_facts(file, facts)
        exported = load_exported(file, "cpu")
        check_agreement(trained.model, exported, images, report)
        ap = check_average_precision(trained.model, exported, sets, options.allow_loss, report)
        write_facts(file, dataclasses.replace(facts, average_precision=ap))
        del exported  # it may hold the file
        # the facts first: after a kill before the last of them, they tell that the others are not theirs
        for written in (facts_path(file), *files_of(file, facts.format)):
            os.replace(written, output.with_name(written.name))
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
        UserError: the model is of another kind than detectron2's or than the format can express, or its images are
            prepared in another way.
    """
    model, kind = trained.model, type(trained.model).__name__
    if not all(hasattr(model, name) for name in ("inference", "pixel_mean", "input_format", "backbone")):
        raise UserError(
            f"{kind} can't be exported: it is no detector like detectron2's GeneralizedRCNN",
            "give it backbone, pixel_mean, input_format and inference(batch, do_postprocess=False)",
        )
    if format == "torch_export" and isinstance(model, GeneralizedRCNN):
        raise UserError(
            f"torch_export can't hold {kind}: torch.export follows no choice of proposals, which depends on the image",
            "use --format onnx or torchscript",
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
        weights_sha256=sha256_of(Path(trained.weights)) if Path(trained.weights).is_file() else "",
        reader=reader_settings(trained.cfg),
    )


def _write(
    detector: nn.Module,
    cfg: DictConfig,
    image: np.ndarray,
    file: Path,
    facts: ModelFacts,
    options: ExportOptions,
) -> None:
    refine = None
    if facts.precision == "float16":
        detector = exportable(compute_in(copy.deepcopy(detector.detector), torch.float16), facts.batched)
    elif facts.precision == "int8":
        calibration = calibration_images(cfg, facts, options.images, options.calibration)
        refine = partial(to_int8, images=calibration, batched=facts.batched)
    write_model(detector, torch.from_numpy(image).to(facts.device), file, facts.format, facts.dynamic, refine)


def _load(options: ExportOptions) -> TrainedModel:
    # ONNX is compared on the CPU, where both compute in float32
    device = "cpu" if options.format in TAKES_BATCHES else options.device
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


def check_place(output: Path, format: str) -> None:
    """Refuse to replace anything but an earlier export and its facts."""
    facts = facts_path(output)
    check_json_file(facts, "the facts of an exported model", "format", "class_names")
    for file in files_of(output, format):
        check_result_file(file, lambda _: facts.is_file(), "an exported model")


def _default_output(options: ExportOptions, trained: TrainedModel) -> Path:
    folder = Path(options.source)
    folder = folder if folder.is_dir() else Path(trained.cfg.train.output_dir)
    weights = Path(trained.weights)
    if options.ema and not weights.stem.endswith("_ema"):
        weights = weights.with_stem(f"{weights.stem}_ema")
    return exported_file(weights, folder, options.precision, options.format)


def exported_file(weights: Path, run_folder: str | Path, precision: str, format: str = "onnx") -> Path:
    """Where the exported model of a run's weights is, if no other place was named."""
    suffix = "" if precision == "float32" else f"_{precision}"
    return Path(run_folder) / EXPORTED / f"{weights.stem}{suffix}{SUFFIXES[format]}"
