"""Ways to run a trained model: by PyTorch, or by the files that tools/export.py made of it."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from xray_lazy.engine.trained_model import find_weights, load_trained_model
from xray_lazy.errors import UserError
from xray_lazy.export.export_model import exported_file
from xray_lazy.export.facts import sha256_of
from xray_lazy.export.runtime import INSTALL_ONNX, INSTALL_OPENVINO
from xray_lazy.modeling.network_precision import compute_in
from xray_lazy.prediction.detector import Detector, ExportedDetector, TrainedDetector


@dataclass(frozen=True)
class Backend:
    """A way to run a model.

    Attributes:
        package: that runs it.
        file: precision of the ONNX file that it takes; None for PyTorch, which takes the weights.
        computes_in: where the package chooses that: "float32" or "bfloat16".
    """

    package: str = "torch"
    file: str | None = None
    computes_in: str = "float32"


BACKENDS = {
    "pytorch": Backend(),
    "pytorch_bfloat16": Backend(computes_in="bfloat16"),
    "onnx": Backend("onnxruntime", "float32"),
    "onnx_int8": Backend("onnxruntime", "int8"),
    "openvino": Backend("openvino", "float32"),
    "openvino_bfloat16": Backend("openvino", "float32", "bfloat16"),
    "openvino_int8": Backend("openvino", "int8"),
}
INSTALL = {"onnxruntime": INSTALL_ONNX, "openvino": INSTALL_OPENVINO}


def installed_backends() -> list[str]:
    """Those whose package is there."""
    return [name for name, backend in BACKENDS.items() if importlib.util.find_spec(backend.package)]


def load_backend(
    name: str,
    run_folder: str | Path,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> Detector:
    """The detector of a training's output folder, run in this way; those that are not PyTorch's, on the CPU.

    Raises:
        UserError: there is no such way, or its package or file is not there, or the file is of other weights.
    """
    backend = BACKENDS.get(name)
    if backend is None:
        raise UserError(f"there is no backend {name!r}", f"name {', '.join(BACKENDS)} or fastest")
    if not backend.file:
        detector = TrainedDetector(load_trained_model(run_folder, weights, overrides, device))
        if backend.computes_in == "bfloat16":
            compute_in(detector.model, torch.bfloat16)
        return detector
    if overrides or weights:
        raise UserError(
            f"the backend {name} runs an exported file, which takes no other weights or settings",
            "leave them out, or choose pytorch or pytorch_bfloat16",
        )
    if importlib.util.find_spec(backend.package) is None:
        raise UserError(f"the backend {name} needs {backend.package}, which is not installed", INSTALL[backend.package])
    weights_file = find_weights(run_folder)
    file = exported_file(weights_file, run_folder, backend.file)
    fix = f"write it with tools/export.py {run_folder} --precision {backend.file}"
    if not file.is_file():
        raise UserError(f"the backend {name} needs {file}", fix)
    library = "openvino" if backend.package == "openvino" else None
    detector = ExportedDetector(file, "cpu", library, backend.computes_in)
    exported_from = detector.facts.weights_sha256
    if exported_from and exported_from != sha256_of(weights_file):  # the run was trained on
        raise UserError(f"{file} is of other weights than those in {run_folder}", fix)
    if changes := detector.facts.overrides:
        raise UserError(
            f"{file} was exported with other settings than those of {run_folder}: {' '.join(changes)}",
            f"name that file in place of the folder, or {fix}",
        )
    return detector
